"""The records of a text: where each of them is in its ids. Knows neither characters nor files."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.text.source import CHUNK_BYTES, Ids


@dataclass(frozen=True)
class Records:
    """R records of a text, which are not empty; each of them ends with the ``separator`` (k,).

    Record i is ``ids[starts[i] : ends[i]]``, its separator included. ``len`` is the number of ids.
    """

    ids: Ids
    separator: Ids
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of ids of each record, its separator included, (R,)."""
        return self.ends - self.starts

    @property
    def opening(self) -> Ids:
        """What is read before a record, from a zero state: the end of a separator, shape (1,)."""
        return self.separator[-1:]

    def split(self, count: int) -> tuple["Records", "Records"]:
        """Return the first ``count`` records, at least one, and the others."""
        at = int(self.ends[count - 1])
        first = Records(self.ids[:at], self.separator, self.starts[:count], self.ends[:count])
        starts, ends = self.starts[count:] - at, self.ends[count:] - at
        return first, Records(self.ids[at:], self.separator, starts, ends)


def find_records(ids: Ids, separator: Ids) -> Records:
    """Return the records that a separator of at least one id divides a text into.

    What follows the last separator is not a record.
    """
    ends = _ends(ids, separator)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    filled = ends - starts > len(separator)
    return Records(ids, separator, starts[filled], ends[filled])


def _ends(ids: Ids, separator: Ids) -> NDArray[np.int64]:
    """Return the end of each separator; of those that overlap, the first counts."""
    length, found = len(separator), [np.zeros(0, np.int64)]
    for start in range(0, len(ids), CHUNK_BYTES):
        part = np.asarray(ids[start : start + CHUNK_BYTES + length - 1])
        count = len(part) - length + 1
        matches = np.ones(max(0, count), np.bool_)
        for offset, wanted in enumerate(separator):
            matches &= part[offset : offset + count] == wanted
        found.append(start + np.flatnonzero(matches))
    ends = np.concatenate(found) + length
    return _apart(ends, length) if (np.diff(ends) < length).any() else ends


def _apart(ends: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return the ends that are at least ``length`` after the last one returned."""
    chosen, last = [], 0
    for end in ends.tolist():
        if end - last >= length:
            chosen.append(end)
            last = end
    return np.array(chosen, np.int64)


def with_end(chunks: Iterator[Ids], end: Ids) -> Iterator[Ids]:
    """Yield chunks of a text, and then its end (k,), unless the text ends with that."""
    last = end[:0]
    for chunk in chunks:
        last = np.concatenate([last, chunk[-len(end) :]])[-len(end) :] if len(end) else last
        yield chunk
    if not np.array_equal(last, end):
        yield end
