"""A sequence of ids -> contiguous windows for a stateful model. Knows neither text nor Keras."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
    def steps(self) -> int:
        """S, the number of steps per epoch."""
        return (len(self.ids) - 1) // self.step_size

    @property
    def step_size(self) -> int:
        """Characters per step, B x T."""
        return self.batch_size * self.sequence_length

    @property
    def unused(self) -> int:
        """Number of ids at the end that are neither input nor target."""
        return len(self.ids) - self.steps * self.step_size - 1

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
