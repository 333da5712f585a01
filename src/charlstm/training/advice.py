"""Advice for a training whose losses go wrong: it learns nothing, or it overfits."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from charlstm.run.history import Epoch, best
from charlstm.training.reports import Note

# Times the loss of a uniform model: no new model and no healthy epoch has a loss as high.
FAR = 1.5
RISES = 3  # epochs in a row: validation loss can rise by chance once or twice


def advice(epochs: Sequence[Epoch], vocab_size: int) -> Iterator[Note]:
    """Yield notes if the newest epoch shows that the model learns nothing, or that it overfits.

    Overfitting is noted once in a training.
    """
    uniform = math.log(vocab_size)
    loss = epochs[-1].train_loss if epochs else None  # a history can be lost meanwhile
    if loss is not None and loss > FAR * uniform:
        yield Note(
            f"the model learns nothing: even a uniform guess has a loss of {uniform:.2f} nats",
            "lower {learning_rate} by a factor of 10 or more",
        )
    if _overfits(epochs) and not any(_overfits(epochs[:n]) for n in range(len(epochs))):
        yield Note(
            f"validation loss has risen for {RISES} epochs while training loss fell: the model "
            f"overfits; epoch {best(epochs)} is the best",
            "use more {weight_decay} or {dropout}, or fewer {units}; or stop early with {patience}",
        )


def _overfits(epochs: Sequence[Epoch]) -> bool:
    """Return whether validation loss rose while training loss fell, in the last RISES epochs."""
    last = epochs[-RISES - 1 :]
    return len(last) > RISES and all(
        _grows(before.valid_loss, after.valid_loss) and _grows(after.train_loss, before.train_loss)
        for before, after in pairwise(last)
    )


def _grows(first: float | None, second: float | None) -> bool:
    return first is not None and second is not None and second > first
