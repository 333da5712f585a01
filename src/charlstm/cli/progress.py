"""What a training shows: lines, and bars on a terminal, all on stderr.

Knows reports, not the training behind them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.remaining import Remaining
from charlstm.config import ModelConfig, SampleConfig, TrainConfig
from charlstm.history import bits_per_char
from charlstm.schedule import length

if TYPE_CHECKING:
    # Shown here, made elsewhere: importing them for real would cost the start-up its speed.
    from charlstm.backend import Device
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

    def __init__(self) -> None:
        self._config = TrainConfig()
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._said = time.monotonic()
        self._notes: set[str] = set()
        self._remaining: Remaining | None = None

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

    @contextlib.contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """Make a note, once, of whatever fails within: it is worth no training's end."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            reason = " ".join(str(error).split()) or type(error).__name__
            note = f"note:    {what}: {reason}"
            if note not in self._notes:
                self.say(note)
            self._notes.add(note)

    def follow(self, config: TrainConfig, windows: Windows, steps_per_call: int) -> None:
        """Take note of the training that is shown from now on."""
        self._config = config
        total = length(config, windows.steps)
        self._remaining = Remaining(total, windows.steps, steps_per_call)

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
        counted = zip(corpus.counts, characters, strict=True)
        there = sorted((count, character) for count, character in counted if count)
        rarest = there[:RAREST]
        shown = ", ".join(f"{describe(character)} {count:,}" for count, character in rarest)
        self.say(f"text:    {len(corpus.ids):,} characters, {len(there):,} distinct")
        self.say(f"rarest:  {shown}")
        self.say(f"split:   {len(windows.ids):,} for training, {len(validation):,} for validation")
        unseen = only_in(validation, corpus)
        if unseen:
            self.say(f"unseen:  only the validation part has {_listed(unseen)}")
        self.say(
            f"batches: {windows.steps:,} steps per epoch of {windows.batch_size:,} x "
            f"{windows.sequence_length:,} characters; {windows.unused:,} at the end are not used"
        )

    def describe_warmup(self, config: TrainConfig, windows: Windows) -> None:
        """Say that the learning rate never comes to be what was asked for."""
        total = length(config, windows.steps)
        if config.warmup > total:
            self.say(
                f"note:    --warmup {config.warmup:,} is longer than the whole training, of "
                f"{total:,} steps: --learning-rate is never reached"
            )

    def describe_settings(self, named: str | None, preset: str | None, characters: int) -> None:
        """Say where the options come from that were not given."""
        why = f"chosen for {characters:,} characters of training" if preset else "as named"
        self.say(f"preset:  {preset or named}, {why}")

    def describe_base(self, base: Checkpoint, corpus: Corpus) -> None:
        """Say how the vocabulary of the model to begin with differs from that of the text."""
        known = set(base.vocabulary.characters)
        counted = zip(corpus.vocabulary.characters, corpus.counts, strict=True)
        text = {character for character, count in counted if count}
        for what, found in (("new to it", text - known), ("not in this text", known - text)):
            shown = _listed(sorted(found)) or "none"
            self.say(f"begins:  with a model of {len(known):,} characters; {what}: {shown}")

    def describe_model(self, model: ModelConfig, vocabulary: Vocabulary, device: str) -> None:
        """Say what will learn, and where."""
        from charlstm.checkpoint import parameters

        self.say(
            f"model:   {architecture(model)}: {parameters(model, len(vocabulary)):,} parameters"
        )
        self.say(f"device:  {device}")

    def describe_needs(self, memory: int, disk: int, device: Device) -> None:
        """Say what the training will need."""
        whose = " of the GPU's" if device.cudnn else ""
        self.say(f"memory:  about {memory / 1e9:,.1f} GB{whose}")
        self.say(f"disk:    {disk / 1e6:,.0f} MB at the end of the run")

    def warn_of_loss(self, problem: str, epoch: int, steps: int) -> None:
        """Say what is lost where the file to go on from is not the last one that was saved."""
        self.say(
            f"warning: {problem}; at least {steps:,} steps after epoch {epoch} are lost, and the "
            "optimizer starts afresh"
        )

    def describe_position(
        self, at: Position, checkpoint: Checkpoint, versions: dict[str, str]
    ) -> None:
        """Say where a training goes on, and what may keep it from being as if never stopped."""
        self.say(f"resumes: epoch {at.epoch}, after step {at.step:,}")
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
            return
        line = self._remaining.after(report) if self._remaining else ""
        if line:
            self.say(line)
        if self._terminal:
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


def _listed(characters: Sequence[str]) -> str:
    """Show the first characters of some, and how many more there are."""
    from charlstm.vocabulary import describe

    more = len(characters) - RAREST
    shown = ", ".join(map(describe, characters[:RAREST]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def architecture(model: ModelConfig) -> str:
    """Say in words what a model is made of, for example ``3 x LSTM(512), dropout 0.2``."""
    values = asdict(model)
    cell, layers, units = (values.pop(name) for name in ("cell", "layers", "units"))
    first = f"{layers} x {cell.upper()}({units:,})"
    more = (f"{name} {value}" for name, value in values.items() if value is not None)
    return ", ".join([first, *more])


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
    return f"{nats:.4f} nats ({bits_per_char(nats):.4f} bits per character)"
