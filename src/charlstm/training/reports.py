"""What a training tells: where it comes from, how it goes, why it ended."""

from dataclasses import dataclass
from pathlib import Path

from charlstm.run.description import Description
from charlstm.training.position import Reason


@dataclass(frozen=True)
class StepReport:
    """One finished step; ``step`` of ``steps`` in this epoch, from 1; losses are nats."""

    epoch: int
    step: int
    steps: int
    loss: float
    smooth_loss: float


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch, written to ``path``; losses are nats, ``valid_loss`` if validated."""

    epoch: int
    train_loss: float
    valid_loss: float | None
    characters_per_second: float
    path: Path


@dataclass(frozen=True)
class Note:
    """Something to know that is worth no training's end; ``hint`` is a way out, as of an error."""

    text: str
    hint: str = ""


@dataclass(frozen=True)
class Ended:
    """The last report: why the training ended, or that there was nothing left to train."""

    reason: Reason


Report = StepReport | EpochReport | Note | Ended


@dataclass(frozen=True)
class Origin:
    """Where a training's options and first weights come from, for whoever shows it.

    ``preset`` was chosen by the length of the text; ``config`` is a saved command line that was
    named. ``base`` is the model whose weights it begins with; ``resumed`` is the file of this
    training that it goes on from, and ``damage`` what is wrong with the newest, if it is another.
    """

    config: str | None = None
    preset: str | None = None
    base: Description | None = None
    resumed: Description | None = None
    damage: str = ""
