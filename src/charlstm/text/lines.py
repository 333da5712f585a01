"""Find where each line of a text starts in its ids, which lack skipped characters.

Opens no files.
"""

import numpy as np
from numpy.typing import NDArray

NEWLINE = 0x0A


class Lines:
    """The line starts of a text, collected as it is read; a line can be left without any ids."""

    def __init__(self) -> None:
        self._ends: list[NDArray[np.intp]] = []
        self._kept = 0  # ids so far
        self._open = False  # whether any text follows the last newline

    def follow(self, points: NDArray[np.unsignedinteger], known: NDArray[np.bool_]) -> None:
        """Read the next code points; ``known`` marks those that are kept as ids."""
        newlines = np.flatnonzero(points == NEWLINE)
        self._ends.append(self._kept + np.cumsum(known)[newlines])
        self._kept += int(known.sum())
        if len(points):
            self._open = bool(points[-1] != NEWLINE)

    def starts(self) -> NDArray[np.intp]:
        """Return the start of each line, as an index into the kept ids."""
        starts = np.concatenate([np.zeros(1, np.intp), *self._ends])
        return starts if self._open or len(starts) == 1 else starts[:-1]
