"""How well a model predicts a stream of ids: nats and bits per character. Knows no text."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.backend import tf
from charlstm.corpus import Ids
from charlstm.model import CharacterModel

CHARACTERS_PER_LANE = 4096  # so few lane starts that what they cost stays below 0.005 nats


@dataclass(frozen=True)
class Evaluation:
    """The sum of nats over some predicted characters."""

    nats: float
    characters: int
    lanes: int

    @property
    def nats_per_char(self) -> float:
        """The loss."""
        return self.nats / self.characters


def evaluate(
    model: CharacterModel,
    ids: Ids,
    *,
    sequence_length: int,
    lanes: int | None = None,
    tick: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Predict every id but the first exactly once; leave the model's state as it was.

    N ids make N - 1 predictions, cut into contiguous lanes in their order; each lane starts from
    a zero state. ``lanes`` defaults to min(B, N // 4096), at least 1, and is at most B. Rows and
    columns without a lane's character weigh 0. ``ids`` must be two or more.

    ``tick`` is called before each window; what it raises ends the evaluation.
    """
    count = len(ids) - 1
    lanes = lanes or max(1, min(model.batch_size, len(ids) // CHARACTERS_PER_LANE))
    ends = pairwise(lane * count // lanes for lane in range(lanes + 1))
    pieces = [ids[start : stop + 1] for start, stop in ends]  # the last id is only a target
    state = model.state()
    model.reset_state()
    nats = 0.0
    try:
        for start in range(0, max(map(len, pieces)) - 1, sequence_length):
            tick()
            window = np.zeros((model.batch_size, sequence_length + 1), ids.dtype)
            weights = np.zeros((model.batch_size, sequence_length))
            for lane, piece in enumerate(pieces):
                part = piece[start : start + sequence_length + 1]
                window[lane, : len(part)] = part
                weights[lane, : max(0, len(part) - 1)] = 1
            nats += float(np.sum(weights * _nats(model, window)))
    finally:
        model.set_state(state)
    return Evaluation(nats, count, lanes)


def _nats(model: CharacterModel, window: Ids) -> NDArray[np.float64]:
    """Return the nats of each target of a window (B, T + 1), shape (B, T), float64."""
    nats: NDArray[np.float64] = _device_nats(model, tf.constant(window)).numpy().astype(np.float64)
    return nats


@tf.function(autograph=False)  # type: ignore[untyped-decorator] # TensorFlow is untyped
def _device_nats(model: CharacterModel, window: Any) -> Any:
    window = tf.cast(window, tf.int32)
    return nats(model(window[:, :-1]), window[:, 1:])


def nats(logits: Any, targets: Any) -> Any:
    """Return -ln softmax(logits)[target] for logits (B, T, V) and targets (B, T)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
