"""Which units know what: the correlation of each unit's states with properties of a text.

Karpathy, Johnson and Fei-Fei 2015, "Visualizing and understanding recurrent networks"; the unit of
Radford et al. 2017, "Learning to generate reviews and discovering sentiment".
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.hardware import has_bfloat16
from charlstm.network.activations import Activations, likelihoods, sums
from charlstm.run.weights import Checkpoint
from charlstm.text.properties import Values

LANES = 64  # parts of the text that are read side by side
WINDOW = 64  # characters of each that are read at once
WARM_UP = 256  # characters that are read before a part, so that its states do not start from zeros

EXPECTED = {" ": "a space", "\n": "a line end"}  # characters whose likelihood is a property

Ids = NDArray[np.int32]
Tick = Callable[[int], object]  # called with the number of newly read characters


@dataclass(frozen=True)
class Unit:
    """A state of a unit; layers and units count from 1."""

    layer: int
    state: str
    number: int

    def __str__(self) -> str:
        return f"layer {self.layer}, {self.state} {self.number}"


@dataclass(frozen=True)
class Neurons:
    """The correlations r of S states with K properties, in the first and second half of a text.

    Units are chosen by the first half; the second says how well they do on text they were not
    chosen on.
    """

    units: list[Unit]
    properties: list[str]
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    def best(self, name: str, count: int) -> list[int]:
        """Return the states that correlate best with a property in the first half."""
        column = self.first[:, self.properties.index(name)]
        return [int(state) for state in np.argsort(-np.abs(column), kind="stable")[:count]]


def find_neurons(
    checkpoint: Checkpoint,
    ids: Ids,
    properties: Mapping[str, Values],
    tick: Tick = lambda _: None,
) -> Neurons:
    """Correlate all states of a model with properties of a text, and with what the model expects.

    ``ids`` (N,) are the text; each property is (N,).
    """
    lanes = max(2, min(LANES, len(ids) // (2 * WARM_UP)) // 2 * 2)
    expected = [c for c in " \n" if c in checkpoint.vocabulary.characters]
    names = [*properties, *(f"likelihood of {EXPECTED[c]} next" for c in expected)]
    values = (
        np.stack(list(properties.values()), 1)
        if properties
        else np.zeros((len(ids), 0), np.float32)
    )
    chosen = checkpoint.vocabulary.encode("".join(expected))
    halves = [_Sums(), _Sums()]
    model = Activations(checkpoint.model, checkpoint.weights, lanes, bfloat16=has_bfloat16())
    for lane_ids, at, counted in _windows(ids, lanes):
        states, logits = model.read(lane_ids)
        if not counted:
            continue
        known = np.concatenate([values[at], likelihoods(logits, chosen)], -1)
        for half, part in zip(halves, (slice(lanes // 2), slice(lanes // 2, None)), strict=True):
            half.add(states[part], known[part])
        tick(lane_ids.size)
    first, second = (half.correlations() for half in halves)
    return Neurons(units_of(checkpoint), names, first, second)


def traces(
    checkpoint: Checkpoint, ids: Ids, columns: list[int], tick: Tick = lambda _: None
) -> NDArray[np.float32]:
    """Return some states after each character of a text, (N, columns), in float32.

    The text is read in one piece, so each state depends on all characters before it.
    """
    model = Activations(checkpoint.model, checkpoint.weights, 1)
    found = np.zeros((len(ids), len(columns)), np.float32)
    for start in range(0, len(ids), WINDOW):
        part = ids[None, start : start + WINDOW]
        states, _ = model.read(part)
        found[start : start + WINDOW] = states[0].numpy()[:, columns]
        tick(part.size)
    return found


def units_of(checkpoint: Checkpoint) -> list[Unit]:
    """Return the states in the order of the columns of Activations."""
    model = checkpoint.model
    return [
        Unit(layer, state, number)
        for layer in range(1, model.layers + 1)
        for state in model.kind.states
        for number in range(1, model.units + 1)
    ]


def _windows(ids: Ids, lanes: int) -> Iterator[tuple[Ids, NDArray[np.int64], bool]]:
    """Yield the ids of a window (B, T), their places in the text, and whether they count.

    Lane b is the b-th of equal parts of the text, after a warm-up, which does not count; what is
    left at the end of the text is not read. The first lane is warmed up with its own text.
    """
    length = len(ids) // lanes
    starts = length * np.arange(lanes)[:, None]
    warm_up = min(WARM_UP, length)
    for first in range(-warm_up, length, WINDOW):
        last = min(first + WINDOW, 0 if first < 0 else length)
        at = np.abs(starts + np.arange(first, last))
        yield ids[at], at, first >= 0


class _Sums:
    """Sums over pairs of states and properties, from which correlations follow."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[Any] = []

    def add(self, states: Any, known: Any) -> None:
        """Add states (b, T, S) and properties (b, T, K)."""
        new = [part.numpy().astype(np.float64) for part in sums(states, known)]
        self._count += states.shape[0] * states.shape[1]
        self._sums = [a + b for a, b in zip(self._sums or [0.0] * len(new), new, strict=True)]

    def correlations(self) -> NDArray[np.float64]:
        """Return Pearson's r, (S, K); 0 where something does not vary."""
        x, xx, y, yy, xy = (part / self._count for part in self._sums)
        spread = np.sqrt(np.outer(xx - x * x, yy - y * y).clip(0))
        r: NDArray[np.float64] = (xy - np.outer(x, y)) / np.where(spread > 0, spread, math.inf)
        return r.clip(-1, 1)
