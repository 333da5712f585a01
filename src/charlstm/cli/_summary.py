"""What a training is and how it goes, in words: a summary at its start, a line for each report.

Knows reports, not the training behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from charlstm.architecture import ModelConfig, parameters
from charlstm.config import DEMO
from charlstm.run.history import bits_per_char

if TYPE_CHECKING:
    # Described here, made elsewhere: importing them for real would cost the start-up its speed.
    from charlstm.run.description import Description
    from charlstm.text.encoding import Corpus
    from charlstm.training.loop import Training
    from charlstm.training.reports import EpochReport, StepReport

LISTED = 8  # characters shown


def summary(training: Training) -> Iterator[str]:
    """Yield the lines that say what a training is made of."""
    origin = training.origin
    if origin.config or origin.preset:
        yield _preset(training)
    yield from _text(training)
    yield from _warmup(training)
    if origin.base:
        yield from _base(origin.base, training.corpus)
    yield from _model(training)
    if origin.resumed:
        yield from _resumed(training, origin.resumed)


def needs(training: Training) -> Iterator[str]:
    """Yield the lines that say what a training will need."""
    from charlstm.training.needs import disk, memory

    whose = " of the GPU's" if training.device.on_gpu else ""
    yield f"memory:  about {memory(training) / 1e9:,.1f} GB{whose}"
    yield f"disk:    {disk(training) / 1e6:,.0f} MB at the end of the run"


def step_line(report: StepReport) -> str:
    """Return the line of a step, in a log file."""
    return f"epoch {report.epoch}, step {report.step:,} of {report.steps:,}: loss {report.loss:.4f}"


def epoch_line(report: EpochReport, epochs: int) -> str:
    """Return the line of an epoch, of ``epochs`` in all."""
    losses = f"train {_loss(report.train_loss)}"
    if report.valid_loss is not None:
        losses += f", validation {_loss(report.valid_loss)}"
    rate = f"{report.characters_per_second:,.0f} characters/s"
    return f"epoch {report.epoch} of {epochs}: {losses}; {rate}; {report.path}"


def architecture(model: ModelConfig) -> str:
    """Say in words what a model is made of, for example ``3 x LSTM(512), dropout 0.2``."""
    values = asdict(model)
    cell, layers, units = (values.pop(name) for name in ("cell", "layers", "units"))
    first = f"{layers} x {cell.upper()}({units:,})"
    rest = (f"{name} {value}" for name, value in values.items() if value is not None)
    return ", ".join([first, *rest])


def _preset(training: Training) -> str:
    origin = training.origin
    chosen = origin.preset and origin.preset != DEMO
    why = f"chosen for {len(training.windows.ids):,} characters of training"
    return f"preset:  {origin.preset or origin.config}, {why if chosen else 'as named'}"


def _text(training: Training) -> Iterator[str]:
    """Yield what there is to learn from."""
    from charlstm.text.encoding import only_in
    from charlstm.text.vocabulary import describe

    corpus, windows, validation = training.corpus, training.windows, training.validation
    counted = zip(corpus.counts, corpus.vocabulary.characters, strict=True)
    present = sorted((count, character) for count, character in counted if count)
    rarest = ", ".join(f"{describe(character)} {count:,}" for count, character in present[:LISTED])
    yield f"text:    {len(corpus.ids):,} characters, {len(present):,} distinct"
    yield f"rarest:  {rarest}"
    yield f"split:   {len(windows.ids):,} for training, {len(validation):,} for validation"
    unseen = only_in(validation, corpus)
    if unseen:
        yield f"unseen:  only the validation part has {_listed(unseen)}"
    yield (
        f"batches: {windows.steps:,} steps per epoch of {windows.batch_size:,} x "
        f"{windows.sequence_length:,} characters; {windows.unused:,} at the end are not used"
    )


def _warmup(training: Training) -> Iterator[str]:
    """Say that the learning rate never comes to be what was asked for."""
    from charlstm.training.schedule import total_steps

    warmup, total = training.config.warmup, total_steps(training.config, training.windows.steps)
    if warmup > total:
        yield (
            f"note:    --warmup {warmup:,} is longer than the whole training, of {total:,} steps: "
            "--learning-rate is never reached"
        )


def _base(base: Description, corpus: Corpus) -> Iterator[str]:
    """Say how the vocabulary of the model to begin with differs from that of the text."""
    known = set(base.vocabulary.characters)
    counted = zip(corpus.vocabulary.characters, corpus.counts, strict=True)
    text = {character for character, count in counted if count}
    for what, characters in (("new to it", text - known), ("not in this text", known - text)):
        shown = _listed(sorted(characters)) or "none"
        yield f"begins:  with a model of {len(known):,} characters; {what}: {shown}"


def _model(training: Training) -> Iterator[str]:
    """Say what will learn, and where."""
    count = parameters(training.model, len(training.corpus.vocabulary))
    yield f"model:   {architecture(training.model)}: {count:,} parameters"
    yield f"device:  {training.device.name}, {training.config.precision}"


def _resumed(training: Training, resumed: Description) -> Iterator[str]:
    """Say where a training goes on, and what may keep it from being as if never stopped."""
    from charlstm.training.clock import versions
    from charlstm.training.position import steps_lost

    at, now = training.at, versions()
    yield f"resumes: epoch {at.epoch}, after step {at.step:,}"
    for name, version in resumed.versions.items():
        if now.get(name, version) != version:
            yield (
                f"note:    {name} was {version}, is {now[name]}: results can differ from those of "
                "a training never stopped"
            )
    if training.origin.damage:
        lost = steps_lost(at, training.run_folder, training.windows.steps)
        yield (
            f"warning: {training.origin.damage}; at least {lost:,} steps after epoch "
            f"{resumed.epoch} are lost, and the optimizer starts afresh"
        )


def _listed(characters: Sequence[str]) -> str:
    """Show the first characters of many, and how many more there are."""
    from charlstm.text.vocabulary import describe

    left = len(characters) - LISTED
    shown = ", ".join(map(describe, characters[:LISTED]))
    return f"{shown} and {left:,} more" if left > 0 else shown


def _loss(nats: float) -> str:
    return f"{nats:.4f} nats ({bits_per_char(nats):.4f} bits per character)"
