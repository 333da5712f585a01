"""Where the lines of a text begin among the ids that are kept of it. Knows no file."""

import numpy as np
from numpy.typing import NDArray

NEWLINE = 0x0A


class Lines:
    """The lines of a text as it is read, also those of which nothing is kept."""

    def __init__(self) -> None:
        self._ends: list[NDArray[np.intp]] = []
        self._kept = 0  # ids so far
        self._open = False  # whether something is behind the last line end

    def follow(self, points: NDArray[np.unsignedinteger], known: NDArray[np.bool_]) -> None:
        """Take note of code points, and of which of them are kept."""
        newlines = np.flatnonzero(points == NEWLINE)
        self._ends.append(self._kept + np.cumsum(known)[newlines])
        self._kept += int(known.sum())
        if len(points):
            self._open = bool(points[-1] != NEWLINE)

    def starts(self) -> NDArray[np.intp]:
        """Return where each line begins, as an index of the ids that are kept."""
        starts = np.concatenate([np.zeros(1, np.intp), *self._ends])
        return starts if self._open or len(starts) == 1 else starts[:-1]
