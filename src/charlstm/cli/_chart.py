"""A chart drawn with characters: a line and a series of marks, distinct without colour.

Knows numbers, not their meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

Points = list[tuple[float, float]]

# The first braille character, and the bit that each dot adds to its code point, by column and row.
BRAILLE, BITS = 0x2800, ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
MARK = "o"
ROWS_PER_LABEL = 3


@dataclass(frozen=True)
class Chart:
    """The data of a chart; ``ends`` are the labels below the first and the last point.

    ``right`` converts a value of the left axis to the right axis. ``plain`` draws in ASCII, with
    one dot per character; braille has 2 x 4.
    """

    line: Points
    marks: Points
    ends: tuple[str, str]
    right: Callable[[float], float]
    plain: bool

    @property
    def sample(self) -> str:
        """The symbol of the line in a legend."""
        return ".." if self.plain else chr(BRAILLE | 0x12) * 2

    def rows(self, width: int, height: int) -> list[str]:
        """Return the rows, labels included, each at most ``width`` characters wide."""
        values = [y for _, y in (*self.line, *self.marks)]
        low, high = min(values), max(values)
        low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
        ticks = [high - (high - low) * row / (height - 1) for row in range(height)]
        left = [f"{tick:.3f}" for tick in ticks]
        right = [f"{self.right(tick):.3f}" for tick in ticks]
        margins = max(map(len, left)), max(map(len, right))
        columns = width - sum(margins) - 4
        rows = []
        for row, cells in enumerate(self._cells(columns, height, (low, high))):
            labelled = row % ROWS_PER_LABEL == 0
            edges = "||" if self.plain else "┤├" if labelled else "││"
            start, end = (left[row], right[row]) if labelled else ("", "")
            rows.append(
                f"{start:>{margins[0]}} {edges[0]}{''.join(cells)}{edges[1]} {end}".rstrip()
            )
        first, last = self.ends
        return [*rows, " " * (margins[0] + 2) + first + last.rjust(columns - len(first))]

    def _cells(self, columns: int, height: int, span: tuple[float, float]) -> list[list[str]]:
        """Return the characters between the labels, by row and column."""
        across, down = (1, 1) if self.plain else (2, 4)
        every = [x for x, _ in (*self.line, *self.marks)]
        first, last = min(every), max(every)

        def place(point: tuple[float, float], width: int, depth: int) -> tuple[int, int]:
            x = (point[0] - first) / (last - first) if first < last else 0.5
            y = (span[1] - point[1]) / (span[1] - span[0])
            return round(x * (width - 1)), round(y * (depth - 1))

        bits = [[0] * columns for _ in range(height)]
        for x, y in _joined([place(p, columns * across, height * down) for p in self.line]):
            bits[y // down][x // across] |= BITS[x % across][y % down]
        drawn = "." if self.plain else ""
        cells = [[(drawn or chr(BRAILLE | b)) if b else " " for b in row] for row in bits]
        for point in self.marks:
            column, row = place(point, columns, height)
            cells[row][column] = MARK
        return cells


def _joined(dots: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Connect each dot to the next without gaps."""
    joined = dots[:1]
    for (x0, y0), (x1, y1) in pairwise(dots):
        count = max(abs(x1 - x0), abs(y1 - y0))
        joined += [
            (round(x0 + (x1 - x0) * i / count), round(y0 + (y1 - y0) * i / count))
            for i in range(1, count + 1)
        ]
    return joined
