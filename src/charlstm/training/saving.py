"""Save a training: its resume file when a save is due, and the weights of each epoch."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from charlstm.architecture import ModelConfig, Weights
from charlstm.errors import CharlstmError
from charlstm.run.folder import RunFolder
from charlstm.run.weights import Array, Checkpoint
from charlstm.text.encoding import Corpus
from charlstm.training.clock import versions
from charlstm.training.position import TEXT, Position
from charlstm.training.step import Trainer
from charlstm.training.wishes import Wishes


class Saving:
    """Writes the resume file and the epoch files, and knows when a save is due."""

    def __init__(
        self,
        trainer: Trainer,
        model: ModelConfig,
        corpus: Corpus,
        run: RunFolder,
        stopped: Callable[[], bool],
    ) -> None:
        self._trainer = trainer
        self._model = model
        self._corpus = corpus
        self._run = run
        self._saved = monotonic()
        self.wishes = Wishes(trainer.workers, self.due, stopped)

    def due(self) -> bool:
        """Tell whether ``save_minutes`` have passed since the last save."""
        return monotonic() - self._saved >= 60 * self._trainer.config.save_minutes

    def save(self, at: Position) -> None:
        """Sync the history to disk, then write the resume file.

        Raises CharlstmError for a state that is not finite.
        """
        history_bytes = self._run.sync_history()
        # Before an epoch's first step, the weights are those of the epoch before.
        epoch = at.epoch if at.step else at.epoch - 1
        losses = {"train_loss": at.total / at.step if at.step else None, "valid_loss": None}
        position = asdict(replace(at, history_bytes=history_bytes))
        position[TEXT] = self._corpus.sha256
        weights, states = self._trainer.model.arrays(), self._trainer.states()
        _check_finite(at.epoch, at.step, *weights, *states.values())
        self._run.write_resume(
            self._checkpoint(epoch, weights, losses, position=position, states=states)
        )
        self._saved = monotonic()

    def save_epoch(
        self,
        epoch: int,
        weights: Weights[Array],
        losses: dict[str, float | None],
        clock: dict[str, Any],
    ) -> Path:
        """Write the weights file of an epoch, append the epoch to the history, return the path.

        Raises CharlstmError for weights or losses that are not finite.
        """
        known = [loss for loss in losses.values() if loss is not None]
        _check_finite(epoch, 0, *known, *weights)
        path = self._run.write_epoch(self._checkpoint(epoch, weights, losses, clock=clock))
        self._run.append_history({"kind": "epoch", "epoch": epoch, **losses, "clock": clock})
        return path

    def _checkpoint(
        self, epoch: int, weights: Weights[Array], losses: dict[str, float | None], **rest: Any
    ) -> Checkpoint:
        return Checkpoint(
            epoch,
            self._model,
            self._corpus.vocabulary,
            weights,
            metrics=losses,
            training=asdict(self._trainer.config),
            versions=versions(),
            **rest,
        )


def _check_finite(epoch: int, step: int, *arrays: Any) -> None:
    """Check arrays before they are saved; step 0 is the end of the epoch.

    Raises CharlstmError if a value is not finite.
    """
    if not all(np.isfinite(array).all() for array in arrays):
        raise not_finite(epoch, step)


def not_finite(epoch: int, step: int) -> CharlstmError:
    """Return the error for a loss or weights that are not finite; step 0 is the epoch's end."""
    where = f"epoch {epoch}, {f'step {step:,}' if step else 'at its end'}"
    return CharlstmError(
        f"{where}: the loss or the weights are not finite, so they were not saved",
        "try a smaller {learning_rate}, or a {clip_norm} such as 1",
    )
