"""Ids -> contiguous windows for a stateful model, of a text or of its shuffled records.

Knows neither text nor Keras.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from charlstm.text.records import Records
from charlstm.text.source import Ids


@dataclass(frozen=True)
class Windows:
    """The batches of one epoch: S = (n - 1) // (B x T) windows from n ids.

    The text is split into B contiguous lanes, the rows of a batch; a window is T columns of them.
    For the text "abcdefghijklm", B = 2 and T = 3 give S = 2:

        lane 0   a b c | d e f        window 0   a b c   targets   b c d
        lane 1   g h i | j k l                   g h i             h i j

                                      window 1   d e f   targets   e f g
                                                 j k l             k l m

    Row b of step s + 1 continues row b of step s, as stateful layers require. The last target of
    a lane is the first id of the next lane; the last lane's is the id that follows it. With fewer
    than B x T + 1 ids there are no steps.
    """

    ids: Ids
    batch_size: int
    sequence_length: int

    @property
    def targets(self) -> int:
        """Number of ids that could be predicted in an epoch."""
        return len(self.ids) - 1

    @property
    def steps(self) -> int:
        """S, the number of steps per epoch."""
        return max(0, self.targets) // self.step_size

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a window."""
        return self.batch_size, self.sequence_length + 1

    @property
    def step_size(self) -> int:
        """Characters per step, B x T."""
        return self.batch_size * self.sequence_length

    @property
    def unused(self) -> int:
        """Number of ids at the end that are neither input nor target."""
        return self.targets - self.steps * self.step_size

    def of_epoch(self, _epoch: int) -> "Windows":
        """Return the windows of an epoch: in every epoch the same."""
        return self

    @cached_property
    def _lanes(self) -> Ids:
        """Every lane with the id that follows it, shape (B, S x T + 1): a view, nothing is read."""
        length = self.steps * self.sequence_length
        used = np.asarray(self.ids[: self.batch_size * length + 1])
        return sliding_window_view(used, length + 1)[::length]

    def window(self, step: int) -> Ids:
        """Return the inputs and targets of a step, shape (B, T + 1).

        Columns 0 to T - 1 are the inputs, columns 1 to T the targets. Steps count from 0.
        """
        start = step * self.sequence_length
        return np.ascontiguousarray(self._lanes[:, start : start + self.sequence_length + 1])


@dataclass(frozen=True)
class RecordWindows(Windows):
    """The windows of an epoch over records, in an order that depends on seed and epoch alone.

    The records follow one another, each with its separator at its end. A window has a second
    plane, which is 1 at the last character of each separator: there, before it is read, the state
    is reset, so that a record begins after the end of a separator and nothing else. For the records
    "ab", "cde" and "f", with the separator "/", the order 1, 0, 2 and B = 1:

        inputs  / c d e / a b / f        targets  c d e / a b / f /
        resets  1 0 0 0 1 0 0 1 0
    """

    records: Records
    seed: int
    epoch: int = 1

    @cached_property
    def targets(self) -> int:
        """Number of ids in all records: with a separator in front, each can be predicted."""
        return int(self.records.lengths.sum())

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a window."""
        return *super().shape, 2

    def of_epoch(self, epoch: int) -> "RecordWindows":
        """Return the windows of an epoch."""
        return replace(self, epoch=epoch)

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of the records, (R,), and where each of them ends in it."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.records.starts))
        return order, np.cumsum(self.records.lengths[order])

    def window(self, step: int) -> Ids:
        """Return the inputs and targets of a step, and where the state is reset: (B, T + 1, 2)."""
        order, ends = self._order
        lanes = self.steps * self.sequence_length * np.arange(self.batch_size)[:, None]
        places = lanes + step * self.sequence_length + np.arange(self.sequence_length + 1)
        # Place 0 is the separator in front of the first record; place p > 0 is id p - 1 of all.
        number = np.searchsorted(ends, np.maximum(places, 1))
        of_text = self.records.ends[order[number]] + places - ends[number] - 1
        ids = self.records.ids[np.where(places > 0, of_text, self.records.ends[0] - 1)]
        resets = (places == 0) | (places == ends[number])
        return np.stack([ids, resets.astype(ids.dtype)], -1)
