"""What a training shows: lines, and bars on a terminal, all on stderr.

Knows reports, not the training behind them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlstm.config import ModelConfig, SampleConfig, TrainConfig

if TYPE_CHECKING:
    # Shown here, made elsewhere: importing them for real would cost the start-up its speed.
    from charlstm.batches import Windows
    from charlstm.checkpoint import Checkpoint
    from charlstm.corpus import Corpus, Ids, Text
    from charlstm.sampling import Sampler
    from charlstm.training import EpochReport, Position, StepReport
    from charlstm.vocabulary import Vocabulary

RAREST = 8  # characters shown
SECONDS_BETWEEN_LINES = 600  # in a log file, within an epoch


class Progress:
    """The account of one training on stderr; close it, so that no bar is left standing."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._said = time.monotonic()

    def say(self, line: str) -> None:
        """Print one line; a bar gives way to it."""
        self.close()
        click.echo(line, err=True)
        self._said = time.monotonic()

    def close(self) -> None:
        """Take away a bar that is on the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def encoding(self, text: Text) -> Callable[[int], object] | None:
        """Return what is to be told how many bytes were read; the text is read twice."""
        if not self._terminal:
            return None
        self._bar = bar("encoding", 2 * text.stamp()[0], "B", delay=0.5)
        return self._bar.update  # type: ignore[no-any-return] # tqdm's types do not say

    def describe_text(self, corpus: Corpus, windows: Windows, validation: Ids) -> None:
        """Say what there is to learn from."""
        from charlstm.corpus import only_in
        from charlstm.vocabulary import describe

        characters = corpus.vocabulary.characters
        rarest = sorted(zip(corpus.counts, characters, strict=True))[:RAREST]
        shown = ", ".join(f"{describe(character)} {count:,}" for count, character in rarest)
        self.say(f"text:    {len(corpus.ids):,} characters, {len(characters):,} distinct")
        self.say(f"rarest:  {shown}")
        self.say(f"split:   {len(windows.ids):,} for training, {len(validation):,} for validation")
        unseen = only_in(validation, corpus)
        if unseen:
            self.say(
                f"unseen:  only the validation part has {', '.join(map(describe, unseen[:RAREST]))}"
                + (f" and {len(unseen) - RAREST:,} more" if len(unseen) > RAREST else "")
            )
        self.say(
            f"batches: {windows.steps:,} steps per epoch of {windows.batch_size:,} x "
            f"{windows.sequence_length:,} characters; {windows.unused:,} at the end are not used"
        )

    def describe_model(self, model: ModelConfig, vocabulary: Vocabulary, device: str) -> None:
        """Say what will learn, and where."""
        from charlstm.checkpoint import parameters

        self.say(
            f"model:   {model.layers} x LSTM({model.units:,}), dropout {model.dropout:g}: "
            f"{parameters(model, len(vocabulary)):,} parameters"
        )
        self.say(f"device:  {device}")

    def describe_disk(self, forecast: int) -> None:
        """Say how large the run will be."""
        self.say(f"disk:    {forecast / 1e6:,.0f} MB at the end of the run")

    def describe_position(
        self, at: Position, checkpoint: Checkpoint, problem: str, versions: dict[str, str]
    ) -> None:
        """Say where a training goes on, and what may keep it from being as if never stopped."""
        self.say(f"resumes: epoch {at.epoch}, after step {at.step:,}")
        if problem:
            self.say(
                f"warning: {problem}; what was trained after epoch {checkpoint.epoch} is lost, and "
                "the optimizer starts afresh"
            )
        for name, version in checkpoint.versions.items():
            if versions.get(name, version) != version:
                self.say(
                    f"note:    {name} was {version}, is {versions[name]}: "
                    "results can differ from those of a training never stopped"
                )

    def show(self, report: StepReport | EpochReport) -> None:
        """Show how far the training is."""
        from charlstm.training import EpochReport

        if isinstance(report, EpochReport):
            self._show_epoch(report)
        elif self._terminal:
            self._move_bar(report)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self.say(
                f"epoch {report.epoch}, step {report.step:,} of {report.steps:,}: "
                f"loss {report.loss:.4f}"
            )

    def show_sample(self, path: Path, sampler: Sampler | None, *, cudnn: bool) -> Sampler:
        """Print a text that the weights of an epoch write; return the sampler for the next."""
        from charlstm.checkpoint import read
        from charlstm.cli.sample import opening
        from charlstm.sampling import Sampler

        checkpoint = read(path)
        if sampler is None:
            sampler = Sampler(checkpoint, cudnn=cudnn)
        sampler.load(checkpoint)
        drawn = sampler.sample(
            checkpoint.vocabulary.encode(opening(checkpoint.vocabulary)),
            SampleConfig().characters,
            temperature=SampleConfig().temperature,
            seed=self._config.seed,
        )
        self.say("".join(checkpoint.vocabulary.decode(piece.ids[0]) for piece in drawn) + "\n")
        return sampler

    def _show_epoch(self, report: EpochReport) -> None:
        losses = f"train {_loss(report.train_loss)}"
        if report.valid_loss is not None:
            losses += f", validation {_loss(report.valid_loss)}"
        self.say(
            f"epoch {report.epoch} of {self._config.epochs}: {losses}; "
            f"{report.characters_per_second:,.0f} characters/s; {report.path}"
        )

    def _move_bar(self, report: StepReport) -> None:
        size = self._config.batch_size * self._config.sequence_length
        if self._bar is None:
            self._bar = bar(f"epoch {report.epoch}", report.steps * size, " characters")
            self._bar.update((report.step - 1) * size)  # of a training that was resumed
        self._bar.set_postfix_str(f"loss {report.loss:.3f}", refresh=False)
        self._bar.update(size)


def bar(what: str, total: int, unit: str, *, delay: float = 0, hidden: bool = False) -> Any:
    """Put up a bar on stderr."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=what,
        unit=unit,
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        delay=delay,
        disable=hidden,
        file=sys.stderr,
    )


def _loss(nats: float) -> str:
    from charlstm.evaluation import bits_per_char

    return f"{nats:.4f} nats ({bits_per_char(nats):.4f} bits per character)"
