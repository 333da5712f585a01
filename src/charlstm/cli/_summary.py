"""Describe a training: a summary before it, a line per report, and the next command after it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from charlstm.architecture import ModelConfig, parameters
from charlstm.config import DEMO
from charlstm.options import listed
from charlstm.run.history import best, bits_per_char

if TYPE_CHECKING:
    # For annotations only: importing these would slow down the start of the program.
    from charlstm.run.description import Description
    from charlstm.text.encoding import Corpus
    from charlstm.training.loop import Training
    from charlstm.training.reports import EpochReport, StepReport

LISTED = 8  # characters shown
RARE = 10  # a character that occurs fewer times can hardly be learned
MANY_RARE = 0.1  # share of the text's distinct characters; fewer rare ones are normal
MANY_UNSEEN = 0.001  # share of the validation text; a smaller one is not worth a line


def summary(training: Training) -> Iterator[str]:
    """Yield the lines that describe a training: its text, its model, its device."""
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
    """Yield the lines that say how much memory and disk a training needs."""
    from charlstm.training.needs import disk, memory

    device = training.device
    where = f" on {'each' if device.replicas > 1 else 'the'} GPU" if device.on_gpu else ""
    yield f"memory:  about {memory(training) / 1e9:,.1f} GB{where}"
    yield f"disk:    {disk(training) / 1e6:,.0f} MB by the end of the run"


def outcome(training: Training) -> Iterator[str]:
    """Yield the lines that say what a finished training achieved and what to type next."""
    from charlstm.run.folder import PICTURE

    run = training.run_folder
    losses = {e.epoch: e.valid_loss for e in run.finished_epochs() if e.valid_loss is not None}
    chosen = best(run.finished_epochs())
    if chosen is not None:
        loss = losses[chosen]
        yield (
            f"best:    epoch {chosen}, validation {loss:.4f} nats "
            f"({bits_per_char(loss):.4f} bits) per character"
        )
    if (run.path / PICTURE).is_file():
        yield f"curve:   {run.path / PICTURE}"
    end_of_options = ["--"] if str(run.path).startswith("-") else []
    yield f"next:    {shlex.join(['charlstm', 'sample', *end_of_options, str(run.path)])}"


def step_line(report: StepReport) -> str:
    """Describe a step, for a log file."""
    return f"epoch {report.epoch}, step {report.step:,} of {report.steps:,}: loss {report.loss:.4f}"


def epoch_line(report: EpochReport, epochs: int) -> str:
    """Describe an epoch, one of ``epochs``, in less than 80 columns."""
    loss, losses = report.train_loss, f"train {report.train_loss:.4f}"
    if report.valid_loss is not None:
        loss, losses = report.valid_loss, f"{losses}, validation {report.valid_loss:.4f}"
    bits, rate = bits_per_char(loss), _short(report.characters_per_second)
    return f"epoch {report.epoch}/{epochs}: {losses} nats ({bits:.3f} bits), {rate} char/s"


def _short(number: float) -> str:
    """Write a number of any size in at most six characters, for example ``14.5k``."""
    if number >= 999_950:  # noqa: PLR2004 - from here on, 1.0M
        return f"{number / 1e6:,.1f}M"
    return f"{number / 1e3:.1f}k" if number >= 9_950 else f"{number:,.0f}"  # noqa: PLR2004 - 10.0k


def architecture(model: ModelConfig) -> str:
    """Describe an architecture, for example ``3 x LSTM(512), dropout 0.2``."""
    values = asdict(model)
    cell, layers, units = (values.pop(name) for name in ("cell", "layers", "units"))
    first = f"{layers} x {cell.upper()}({units:,})"
    rest = (f"{name} {value}" for name, value in values.items() if value is not None)
    return ", ".join([first, *rest])


def _preset(training: Training) -> str:
    origin = training.origin
    if origin.preset and origin.preset != DEMO:
        count = len(training.windows.ids)
        return f"preset:  {origin.preset}, chosen for {count:,} characters of training text"
    return f"preset:  {origin.preset or origin.config}"


def _text(training: Training) -> Iterator[str]:
    """Yield the lines that describe the text, its split and its batches."""
    from charlstm.text.encoding import only_in
    from charlstm.text.records import Records
    from charlstm.text.windows import RecordWindows

    corpus, windows, validation = training.corpus, training.windows, training.validation
    counted = zip(corpus.counts, corpus.vocabulary.characters, strict=True)
    present = sorted((count, character) for count, character in counted if count)
    rare = [character for count, character in present if count < RARE]
    yield f"text:    {len(corpus.ids):,} characters, {len(present):,} distinct"
    if len(rare) > MANY_RARE * len(present):
        yield (
            f"rare:    {len(rare):,} of {len(present):,} distinct characters occur fewer than "
            f"{RARE} times: {_listed(rare)}"
        )
    yield f"split:   {len(windows.ids):,} for training, {len(validation):,} for validation"
    if isinstance(windows, RecordWindows) and isinstance(validation, Records):
        lengths = windows.records.lengths - len(windows.records.separator)
        yield (
            f"records: {len(lengths):,} for training, {len(validation.starts):,} for validation; "
            f"of {lengths.mean():,.1f} characters on average, at most {lengths.max():,}"
        )
    held_out = validation.ids if isinstance(validation, Records) else validation
    unseen = only_in(held_out, corpus)
    share = sum(corpus.counts[i] for i in corpus.vocabulary.encode(unseen)) / (len(validation) or 1)
    if share > MANY_UNSEEN:
        yield (
            f"unseen:  {share:.1%} of the validation characters never occur in the training text: "
            f"{_listed(unseen)}; --min-count 5 gives rare characters one id"
        )
    yield (
        f"batches: {windows.steps:,} steps per epoch, each of {windows.batch_size:,} lanes x "
        f"{windows.sequence_length:,} characters"
    )


def _warmup(training: Training) -> Iterator[str]:
    """Warn of a warm-up that never ends."""
    from charlstm.training.schedule import total_steps

    warmup, total = training.config.warmup, total_steps(training.config, training.windows.steps)
    if warmup > total:
        yield (
            f"note:    --warmup {warmup:,} is longer than the training ({total:,} "
            f"{'step' if total == 1 else 'steps'}), which never reaches --learning-rate"
        )


def _base(base: Description, corpus: Corpus) -> Iterator[str]:
    """Compare the vocabulary of the base model with that of the text."""
    known = set(base.vocabulary.characters)
    counted = zip(corpus.vocabulary.characters, corpus.counts, strict=True)
    text = {character for character, count in counted if count}
    yield f"base:    a model with {len(known):,} characters in its vocabulary"
    for what, characters in (("new", text - known), ("unused", known - text)):
        if characters:
            yield f"{what + ':':9}{_listed(sorted(characters))}"


def _model(training: Training) -> Iterator[str]:
    """Yield the lines that describe the model and the device."""
    count = parameters(training.model, len(training.corpus.vocabulary))
    yield f"model:   {architecture(training.model)}: {count:,} parameters"
    yield f"device:  {training.device.name}, {training.config.precision}"
    if training.origin.minutes is not None:
        epochs = (training.config.max_steps or 0) / training.windows.steps
        minutes = training.origin.minutes
        unit = "minute" if minutes == 1 else "minutes"
        yield f"time:    {epochs:.1f} epochs fit into {minutes:g} {unit}"


def _resumed(training: Training, resumed: Description) -> Iterator[str]:
    """Say where a training continues, and why its results may differ from an uninterrupted run."""
    from charlstm.training.clock import versions
    from charlstm.training.position import steps_lost

    at = training.at
    before = {**resumed.versions, "precision": resumed.training.get("precision")}
    now = {**versions(), "precision": training.config.precision}
    yield f"resumes: epoch {at.epoch}, after step {at.step:,}"
    for name, value in before.items():
        if value and now.get(name, value) != value:
            yield (
                f"note:    {name} was {value} and is now {now[name]}: results can differ from "
                "those of an uninterrupted run"
            )
    if training.origin.damage:
        lost = steps_lost(at, training.run_folder, training.windows.steps)
        yield (
            f"warning: {training.origin.damage}; at least {lost:,} steps after epoch "
            f"{resumed.epoch} are lost, and the optimizer starts from scratch"
        )


def _listed(characters: Sequence[str]) -> str:
    """List the first characters, and say how many more there are."""
    from charlstm.text.vocabulary import describe

    return listed([describe(character) for character in characters], LISTED)
