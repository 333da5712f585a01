"""The reports of a training: its origin, its progress, and why it ended."""

from dataclasses import dataclass
from pathlib import Path

from charlstm.run.description import Description
from charlstm.training.position import Reason


@dataclass(frozen=True)
class StepReport:
    """A finished step, number ``step`` (from 1) of ``steps`` in this epoch; losses are in nats."""

    epoch: int
    step: int
    steps: int
    loss: float
    smooth_loss: float


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch, saved to ``path``; losses in nats, ``valid_loss`` None if not validated."""

    epoch: int
    train_loss: float
    valid_loss: float | None
    characters_per_second: float
    path: Path


@dataclass(frozen=True)
class Note:
    """A note for the user; the training continues. ``hint`` says what to do, as in an error."""

    text: str
    hint: str = ""


@dataclass(frozen=True)
class Ended:
    """The last report: why the training ended, or why nothing was left to train."""

    reason: Reason


Report = StepReport | EpochReport | Note | Ended


@dataclass(frozen=True)
class Origin:
    """Where a training's options and initial weights come from, for display.

    ``preset`` is the preset chosen for the text; ``config`` is the preset or the options file that
    the user named. ``base`` describes the model to fine-tune, ``resumed`` the file that the
    training resumes from. ``damage`` says why that is an epoch file, not the resume file.
    ``minutes`` is the time that the options were chosen for.
    """

    config: str | None = None
    preset: str | None = None
    base: Description | None = None
    resumed: Description | None = None
    damage: str = ""
    minutes: float | None = None
