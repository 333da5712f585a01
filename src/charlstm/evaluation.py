"""Measure how well a model predicts a sequence of ids, in nats and bits per character.

Knows ids only, no characters.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import Weights
from charlstm.network.backend import tf
from charlstm.network.model import CharacterModel, likeliest
from charlstm.network.workers import ALONE, Workers
from charlstm.run.history import bits_per_char
from charlstm.text.records import Records
from charlstm.text.source import Ids

Predict = Callable[[Any, Any, int], Any]  # window, weights of targets, K -> _device_predictions
Array = NDArray[np.float32]
Lanes = list[tuple[int, Ids]]  # ids, and the index of the first of them in the text

LONGEST_WINDOW = 512  # characters
LINES, LINE_WINDOW = 64, 64  # lines that are predicted side by side, and characters per window then
CHARACTERS_PER_LANE = 4096  # long enough that starting without context costs below 0.005 nats

# Softmax temperatures to choose from, 0.9 to 1.6: a model that overfits is too sure of its guesses
# and needs one above 1. Between two of them, the loss is at most 0.001 nats lower.
TEMPERATURES = tuple(round(0.9 + 0.05 * i, 2) for i in range(15))


@dataclass(frozen=True)
class Evaluation:
    """The total loss over the predicted characters; without any, the means are undefined."""

    nats: float
    characters: int
    lanes: int
    temperature: float = 1.0

    @property
    def nats_per_char(self) -> float:
        """The loss in nats."""
        return self.nats / self.characters

    @property
    def bits_per_char(self) -> float:
        """The loss in bits."""
        return bits_per_char(self.nats_per_char)


@dataclass(frozen=True)
class Division:
    """A text divided into ``lanes``, which are predicted in ``groups`` of at most ``side_by_side``.

    ``longest`` is the longest window that is of use; ``targets`` the number of predictions.
    """

    lanes: int
    side_by_side: int
    groups: Iterator[Lanes]
    longest: int
    targets: int

    def evaluation(self, nats: float) -> Evaluation:
        """Return the result for a total loss in nats."""
        return Evaluation(nats, self.targets, self.lanes)


@dataclass(frozen=True)
class Prediction:
    """The predictions for one window.

    ``nats`` (B, T), float64, is the loss of each target, 0 at positions without a target.
    ``spans`` holds for each lane its row, the index of its first target in the text, and its
    number of targets. ``guesses`` (B, T, K) are the ids of the K most likely characters, and
    ``probabilities`` (B, T, K) their probabilities.
    """

    nats: NDArray[np.float64]
    spans: list[tuple[int, int, int]]
    guesses: NDArray[np.int32]
    probabilities: NDArray[np.float32]


def default_lanes(count: int, batch_size: int) -> int:
    """Return the number of lanes for a text of ``count`` ids: min(B, N // 4096), at least 1."""
    return max(1, min(batch_size, count // CHARACTERS_PER_LANE))


def evaluate(  # noqa: PLR0913 - the last four are rarely needed
    model: CharacterModel,
    ids: Ids | Records,
    *,
    sequence_length: int,
    lanes: int | None = None,
    temperatures: tuple[float, ...] = (1.0,),
    tick: Callable[[], object] = lambda: None,
    workers: Workers = ALONE,
) -> Evaluation:
    """Return the total loss of predicting every id but the first; of records, every id.

    Of several softmax temperatures, it is the lowest loss (temperature scaling: Guo et al. 2017,
    "On calibration of modern neural networks"). ``tick`` is called after each window; an exception
    that it raises ends the evaluation. ``workers`` share the lanes; all get the same result.
    """
    if isinstance(ids, Records):
        divided = into_records(ids, model.batch_size)
        sequence_length = min(sequence_length, divided.longest)
    else:
        lanes = lanes or default_lanes(len(ids), model.batch_size)
        divided = into_lanes(ids, lanes, model.batch_size)
    nats = np.zeros(len(temperatures))
    for group in islice(divided.groups, workers.index, None, workers.count):
        with _from_zero_state(model):
            for window, weights, _ in _windows(group, model.batch_size, sequence_length):
                losses = _device_losses(model, tf.constant(window), temperatures).numpy()
                nats += np.sum(weights * losses.astype(np.float64), axis=(1, 2))
                tick()
    nats = workers.total(nats)
    best = int(np.argmin(nats))
    return Evaluation(float(nats[best]), divided.targets, divided.lanes, temperatures[best])


def at_temperature(weights: Weights[Array], temperature: float) -> Weights[Array]:
    """Return the weights of a model whose logits are those of ``weights`` / ``temperature``."""
    return replace(
        weights,
        dense_kernel=weights.dense_kernel / np.float32(temperature),
        dense_bias=weights.dense_bias / np.float32(temperature),
    )


def predict_lanes(
    model: CharacterModel,
    groups: Iterable[Lanes],
    *,
    sequence_length: int,
    guesses: int = 0,
    predict: Predict | None = None,
) -> Iterator[Prediction]:
    """Predict every id of each lane but its first; restore the model's state afterwards.

    A lane is a sequence of ids, and the index of its first id in the text; it starts from a zero
    state. A group has at most B lanes. Padding has weight 0. ``guesses`` is K, the number of
    guesses in each Prediction. ``predict`` can do more than predict, such as learn.
    """
    predict = predict or (lambda window, _, guesses: _device_predictions(model, window, guesses))
    for group in groups:
        with _from_zero_state(model):
            for window, weights, spans in _windows(group, model.batch_size, sequence_length):
                results = predict(tf.constant(window), weights, guesses)
                nats, probabilities, best = (array.numpy() for array in results)
                yield Prediction(weights * nats.astype(np.float64), spans, best, probabilities)


@contextmanager
def _from_zero_state(model: CharacterModel) -> Iterator[None]:
    """Start from a zero state; restore the model's state afterwards."""
    state = model.state()
    model.reset_state()
    try:
        yield
    finally:
        model.set_state(state)


def into_lanes(ids: Ids, lanes: int, most: int | None = None) -> Division:
    """Divide N ids, at least two, into contiguous lanes; up to ``most``, or all, form a group.

    Every id but the text's first is a target once: the last target of a lane is the first id of the
    next one.
    """
    count, most = len(ids) - 1, most or lanes
    starts = [lane * count // lanes for lane in range(lanes + 1)]
    # The last id of a lane is only a target.
    every = [(start, ids[start : stop + 1]) for start, stop in pairwise(starts)]
    groups = (every[first : first + most] for first in range(0, lanes, most))
    return Division(lanes, most, groups, min(LONGEST_WINDOW, count), count)


def into_records(records: Records, most: int | None = None) -> Division:
    """Divide a text into lanes of a record each, with the end of a separator before it.

    Every id of a record is a target. Records of similar length are side by side, and those without
    ids are left out.
    """
    lengths = records.lengths
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    most = min(most or LINES, len(order))

    def group(chosen: NDArray[np.intp]) -> Lanes:
        spans = ((int(records.starts[i]), int(records.ends[i])) for i in chosen)
        return [
            (start - 1, np.concatenate([records.opening, records.ids[start:end]]))
            for start, end in spans
        ]

    groups = (group(order[first : first + most]) for first in range(0, len(order), most))
    longest = min(LINE_WINDOW, int(lengths.max()))
    return Division(len(order), most, groups, longest, int(lengths.sum()))


def _windows(
    lanes: Lanes, batch_size: int, sequence_length: int
) -> Iterator[tuple[Ids, NDArray[np.float64], list[tuple[int, int, int]]]]:
    """Yield windows of ids (B, T + 1), the weights of their targets (B, T), 0 or 1, and spans.

    The spans are those of a Prediction.
    """
    for start in range(0, max(len(ids) for _, ids in lanes) - 1, sequence_length):
        window = np.zeros((batch_size, sequence_length + 1), lanes[0][1].dtype)
        weights = np.zeros((batch_size, sequence_length))
        spans = []
        for row, (first, ids) in enumerate(lanes):
            part = ids[start : start + sequence_length + 1]
            window[row, : len(part)] = part
            targets = max(0, len(part) - 1)
            weights[row, :targets] = 1
            spans.append((row, first + start + 1, targets))
        yield window, weights, spans


@tf.function(autograph=False)  # type: ignore[untyped-decorator] # TensorFlow is untyped
def _device_predictions(model: CharacterModel, window: Any, guesses: int) -> Any:
    """Return nats (B, T), probabilities (B, T, K) and ids (B, T, K) for a window (B, T + 1).

    The last two are those of the K most likely characters at each position.
    """
    window = tf.cast(window, tf.int32)
    logits = model(window[:, :-1])
    return nats(logits, window[:, 1:]), *likeliest(logits, guesses)


@tf.function(autograph=False)  # type: ignore[untyped-decorator] # TensorFlow is untyped
def _device_losses(model: CharacterModel, window: Any, temperatures: tuple[float, ...]) -> Any:
    """Return nats (K, B, T) at each of K temperatures, for a window (B, T + 1)."""
    window = tf.cast(window, tf.int32)
    logits = model(window[:, :-1])
    return tf.stack([nats(logits / one, window[:, 1:]) for one in temperatures])


def nats(logits: Any, targets: Any) -> Any:
    """Return -ln softmax(logits)[target] for logits (..., V) and targets (...)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
