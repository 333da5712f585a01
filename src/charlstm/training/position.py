"""The position of a training: read it from a file, and tell whether the training is finished."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.run.description import Description
from charlstm.run.folder import RunFolder
from charlstm.run.history import steps_done
from charlstm.text.encoding import Corpus

TEXT = "text"  # key in a saved position: the SHA-256 of the text
Reason = Literal["epochs", "max_steps", "patience", "stopped"]


@dataclass(frozen=True)
class Position:
    """A position in a training: ``step`` steps of ``epoch`` are done; ``total`` sums their losses.

    ``history_bytes`` is the length of the history so far, ``seconds`` the elapsed time.
    """

    epoch: int
    step: int
    total: float
    smooth_loss: float
    history_bytes: int
    seconds: float


def beginning(vocab_size: int) -> Position:
    """Return the position before the first step, with the loss of a uniform model."""
    return Position(1, 0, 0.0, math.log(vocab_size), 0, 0.0)


def position_of(
    description: Description, model: ModelConfig, corpus: Corpus, run: RunFolder
) -> Position:
    """Return the position saved in a resume file, or for an epoch file, the end of its epoch.

    Raises CharlstmError if the file belongs to another training or has an invalid value.
    """
    ours = (model, corpus.vocabulary) == (description.model, description.vocabulary)
    if description.position is None and ours:
        epoch, loss = description.epoch, description.metrics.get("train_loss")
        smooth_loss = loss if isinstance(loss, float) else 0.0
        return Position(epoch + 1, 0, 0.0, smooth_loss, run.history_until(epoch), 0.0)
    saved = description.position or {}
    if not ours or saved.get(TEXT) != corpus.sha256:
        raise _foreign(run, "belongs to another model or text")
    for item in fields(Position):
        value: Any = saved.get(item.name)
        if type(value) is not item.type or not 0 <= value < math.inf:
            raise _foreign(run, f"its {item.name} is invalid")
    return Position(**{item.name: saved[item.name] for item in fields(Position)})


def _foreign(run: RunFolder, what: str) -> CharlstmError:
    return CharlstmError(
        f"{run.resume_path}: {what}", "restore the original, or start again with {overwrite}"
    )


def steps_lost(at: Position, run: RunFolder, steps: int) -> int:
    """Return how many steps the history has after a position; an epoch has ``steps`` steps."""
    done = max((steps_done(line, steps) for line in run.history()[0]), default=0)
    return max(0, done - (at.epoch - 1) * steps - at.step)


def finished(at: Position, config: TrainConfig, steps: int, run: RunFolder) -> Reason | None:
    """Return why nothing is left to train at a position, or None; an epoch has ``steps`` steps."""
    if at.step:
        return None
    if at.epoch > config.epochs:
        return "epochs"
    if config.max_steps is not None and (at.epoch - 1) * steps >= config.max_steps:
        return "max_steps"
    if config.patience is not None and run.epochs_since_best() >= config.patience:
        return "patience"
    return None
