"""A stream of ids -> contiguous stateful windows. Knows no text and no Keras."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from charlstm.text.source import Ids


@dataclass(frozen=True)
class Windows:
    """The batches of one epoch: S = (n - 1) // (B x T) windows of n ids.

    The text is cut into B lanes that lie side by side; a window is T columns of them. With the
    text "abcdefghijklm", B = 2 and T = 3, so S = 2:

        lane 0   a b c | d e f        window 0   a b c   targets   b c d
        lane 1   g h i | j k l                   g h i             h i j

                                      window 1   d e f   targets   e f g
                                                 j k l             k l m

    Row b of step s + 1 continues row b of step s, so that the state of a stateful layer is right.
    The last target of a lane is the first id of the next; the last lane's is the id behind it.
    Below B x T + 1 ids there is no step.
    """

    ids: Ids
    batch_size: int
    sequence_length: int

    @property
    def steps(self) -> int:
        """S, the steps of an epoch."""
        return (len(self.ids) - 1) // self.step_size

    @property
    def step_size(self) -> int:
        """Characters of a step, B x T."""
        return self.batch_size * self.sequence_length

    @property
    def unused(self) -> int:
        """How many ids at the end are neither input nor target."""
        return len(self.ids) - self.steps * self.step_size - 1

    @cached_property
    def _lanes(self) -> Ids:
        """Every lane with the id behind it, shape (B, S x T + 1): a view, nothing is read."""
        length = self.steps * self.sequence_length
        used = np.asarray(self.ids[: self.batch_size * length + 1])
        return sliding_window_view(used, length + 1)[::length]

    def window(self, step: int) -> Ids:
        """Return the inputs of a step and their targets, shape (B, T + 1).

        Columns 0 to T - 1 are the inputs, columns 1 to T the targets. Steps count from 0.
        """
        start = step * self.sequence_length
        return np.ascontiguousarray(self._lanes[:, start : start + self.sequence_length + 1])
