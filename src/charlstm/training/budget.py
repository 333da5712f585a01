"""Choose the width of a model and the number of steps of a training that has a given time.

Knows no run folder and no command line.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from time import monotonic

from charlstm.architecture import parameters
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.evaluation import default_lanes
from charlstm.network.device import Device
from charlstm.text.encoding import Corpus
from charlstm.text.records import Records
from charlstm.text.source import Ids
from charlstm.training.corpus import divided
from charlstm.training.pace import CALLS_BEFORE, seconds_per_step
from charlstm.training.settings import Settings
from charlstm.training.step import Trainer, device_errors, make_trainer
from charlstm.training.validation import validated


@dataclass(frozen=True)
class Width:
    """A width of the network, the options that suit it, and the smallest budget it is chosen for.

    A budget is a number of multiplications with weights: weights times characters.
    """

    units: int
    least: float
    batch_size: int | None = None  # None: as in the preset
    learning_rate: float | None = None


# The width with the best validation loss at each point in time, in trainings of 3 layers on Tiny
# Shakespeare; extrapolated from 512 on. Narrow networks are trained for a short time, so they take
# more and larger steps.
WIDTHS = (
    Width(128, 0, 16, 0.004),
    Width(256, 1.2e12, 16, 0.004),
    Width(384, 1e13, 16, 0.003),
    Width(512, 2.5e13),
    Width(768, 3e14),
    Width(1024, 1e15),
)

VALIDATION_SHARE = 0.1  # of the time is the most that validation may take
FIRST = 2e12  # budget whose width is measured first: steps of a wide one could take too long
# Share of the time in which steps are measured, and its limits in seconds: the longer, the less a
# moment counts in which the computer does something else.
MEASURED, SHORTEST, LONGEST = 0.03, 2.0, 10.0
WINDOWS = 8  # for validation

# Seconds for the picture, the sample and the files of an epoch, and once for the first sample and
# for the end of the program: measured on two cores with 3 x LSTM(256).
PER_EPOCH, ONCE = 0.3, 2.5


@dataclass(frozen=True)
class Pace:
    """Seconds to build and compile a trainer, per step, and per character of validation."""

    build: float
    step: float
    character: float


def in_time(
    end: float, settings: Settings, corpus: Corpus, device: Device, *, fixed: Collection[str]
) -> Settings:
    """Return the settings of a training that ends at ``end``, by the monotonic clock.

    Measures the speed of this device for a few seconds. ``fixed`` are the options that may not
    change; of the others, it chooses ``units`` with the ``batch_size`` and ``learning_rate`` that
    suit them, ``validation``, ``max_steps`` and ``epochs``.

    Raises CharlstmError if there is no time for a single step.
    """
    if "units" in fixed:
        pace = _measured(end, settings, corpus, device)
    else:
        settings, pace = _of_best_width(end, settings, corpus, device, fixed)
    config, left = settings.config, _left(end, pace)
    if "validation" not in fixed:
        config = _validating_less(config, corpus, pace, left)
    windows, validation = divided(corpus, config)
    steps = windows.steps
    count = steps_in(left, pace.step, steps, len(validation) * pace.character + PER_EPOCH)
    if count < 1:
        raise CharlstmError("too little time for a single step", "allow more", option="minutes")
    config = replace(config, max_steps=min(count, config.max_steps or count))
    if "epochs" not in fixed:
        config = replace(config, epochs=math.ceil(count / steps))
    return replace(settings, config=config)


def _of_best_width(
    end: float, settings: Settings, corpus: Corpus, device: Device, fixed: Collection[str]
) -> tuple[Settings, Pace]:
    """Return settings with the best width for the time, at most theirs, and its pace."""
    most = settings.model.units
    first = _with_width(settings, width_for(FIRST, most), fixed)
    pace = _measured(end, first, corpus, device)
    size = first.config.batch_size * first.config.sequence_length
    characters = _left(end, pace) / pace.step * size
    budget = parameters(first.model, len(corpus.vocabulary)) * characters
    best = _with_width(settings, width_for(budget, most), fixed)
    return best, pace if best == first else _measured(end, best, corpus, device)


def width_for(budget: float, most: int) -> Width:
    """Return the width for a budget; the preset's is ``most``, with the preset's options."""
    found = max((w for w in WIDTHS if w.least <= budget), key=lambda width: width.units)
    return found if found.units < most else Width(most, 0)


def _with_width(settings: Settings, width: Width, fixed: Collection[str]) -> Settings:
    """Return settings with the options of a width, apart from those that are fixed."""
    model, config = replace(settings.model, units=width.units), settings.config
    if width.batch_size and "batch_size" not in fixed:
        config = replace(config, batch_size=width.batch_size)
    if width.learning_rate and "learning_rate" not in fixed:
        config = replace(config, learning_rate=width.learning_rate)
    return replace(settings, model=model, config=config)


def _left(end: float, pace: Pace) -> float:
    """Return the seconds left for steps and epochs."""
    return max(0.0, end - monotonic() - pace.build - ONCE)


def steps_in(left: float, step: float, steps: int, per_epoch: float) -> int:
    """Return how many steps fit in ``left`` seconds, with an epoch's end after every ``steps``.

    ``step`` and ``per_epoch`` are the seconds that each of these takes.
    """
    whole, rest = divmod(left, steps * step + per_epoch)
    return int(whole) * steps + max(0, int((rest - per_epoch) / step))


def _validating_less(config: TrainConfig, corpus: Corpus, pace: Pace, left: float) -> TrainConfig:
    """Return options with a fraction for validation that takes no more than its share of time."""
    windows, validation = divided(corpus, config)
    epochs = max(1.0, left / pace.step / windows.steps)
    seconds = epochs * len(validation) * pace.character
    if seconds <= VALIDATION_SHARE * left:
        return config
    fraction = config.validation * VALIDATION_SHARE * left / seconds
    return replace(config, validation=float(f"{fraction:.1g}"))


def _measured(end: float, settings: Settings, corpus: Corpus, device: Device) -> Pace:
    """Build a trainer, and time some of its steps and some validation."""
    config, began = settings.config, monotonic()
    seconds = min(max(MEASURED * (end - began), SHORTEST), LONGEST)
    windows, validation = divided(corpus, config)
    trainer = make_trainer(settings.model, config, len(corpus.vocabulary), device)
    with device_errors(config):
        seconds_per_step(trainer, windows, calls=CALLS_BEFORE)
        build = monotonic() - began
        step = seconds_per_step(trainer, windows, seconds=seconds)
        return Pace(build, step, _validate(trainer, validation) if len(validation) else 0.0)


def _validate(trainer: Trainer, validation: Ids | Records) -> float:
    """Return the seconds per character of validation."""
    size, length = trainer.config.batch_size, trainer.config.sequence_length
    lanes, part = default_lanes(len(validation), size), validation
    if isinstance(validation, Records):
        part, _ = validation.split(min(size * WINDOWS, len(validation.starts)))
    else:
        part = validation[: lanes * length * WINDOWS + 1]
    for _ in range(2):  # the first time compiles
        start = monotonic()
        validated(trainer, part, lanes=lanes)
    return (monotonic() - start) / len(part)
