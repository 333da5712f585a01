"""Passages that a short text has in common with a long one: an index of it, and the look-up.

Knows ids only, no characters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from charlstm import files
from charlstm.text.fingerprints import BASE, Fingerprints, mixed, powers
from charlstm.text.source import Ids

Places = NDArray[np.int64]

# The index has every STRIDE-th place of the long text, sorted by the fingerprint of the GRAM ids
# there. Each passage of SHORTEST ids has such a place whose GRAM ids are within the passage.
SHORTEST, GRAM = 20, 10
STRIDE = SHORTEST - GRAM + 1
AT_ONCE = 2**19  # places that are sorted in memory


@dataclass(frozen=True)
class Passage:
    """``length`` ids, from ``start`` of the short text and from ``place`` of the long one on."""

    length: int
    start: int
    place: int


@dataclass(frozen=True)
class Copied:
    """What of a text is also in a long one, in passages of at least SHORTEST ids.

    ``longest`` is None if there is none. ``marks`` (N,) is True in such passages.
    """

    longest: Passage | None
    marks: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """The fraction of the ids in such passages."""
        return float(self.marks.mean()) if len(self.marks) else 0.0


def write_index(ids: Ids, path: Path) -> None:
    """Write the index of a text: 4 bytes for every STRIDE ids, or 8 if it has 2 ** 32 or more.

    Never holds more than a part of the index in memory. Raises OSError.
    """
    count = _count(ids)
    bits = max(0, (count // AT_ONCE).bit_length())
    sizes = np.zeros(2**bits, np.int64)
    for places in _portions(count):
        sizes += np.bincount(_bucket(_grams(ids, places), bits), minlength=2**bits)
    stops = np.cumsum(sizes)
    with files.replacing(path) as file:
        file.truncate(count * _dtype(ids).itemsize)
        if not count:
            return
        index = np.memmap(file, _dtype(ids), "r+", shape=(count,))
        following = stops - sizes
        for places in _portions(count):
            buckets = _bucket(_grams(ids, places), bits)
            order = np.argsort(buckets, kind="stable")
            # The n-th place of a bucket in this portion is the n-th that follows in the index.
            numbers = np.bincount(buckets, minlength=2**bits)
            firsts = np.repeat(following - (np.cumsum(numbers) - numbers), numbers)
            index[firsts + np.arange(len(order))] = places[order]
            following += numbers
        for start, stop in zip(stops - sizes, stops, strict=True):
            part = index[start:stop]
            part[:] = part[np.argsort(_grams(ids, part), kind="stable")]
        index.flush()


class PassageIndex:
    """A long text, memory-mapped, and the file of ``write_index`` for it.

    Raises OSError if the file is missing, and ValueError if it is that of another text.
    """

    def __init__(self, ids: Ids, path: Path) -> None:
        self._ids = ids
        size, dtype = _count(ids), _dtype(ids)
        if path.stat().st_size != size * dtype.itemsize:
            raise ValueError(path)
        self._places = np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)

    def copied(self, text: NDArray[np.int32]) -> Copied:
        """Return what of a short text, (N,), is also in the long one."""
        marks, longest = np.zeros(len(text), np.bool_), None
        for start, places in self._candidates(text):
            before = self._agreeing(text[:start][::-1], places - 1, -1)
            lengths = before + self._agreeing(text[start:], places, 1)
            enough = lengths >= SHORTEST
            for back, length in np.unique(
                np.stack([before[enough], lengths[enough]], 1), axis=0
            ).tolist():
                marks[start - back : start - back + length] = True
            if enough.any() and (longest is None or lengths.max() > longest.length):
                best = int(lengths.argmax())
                back, length = int(before[best]), int(lengths[best])
                longest = Passage(length, start - back, int(places[best]) - back)
        return Copied(longest, marks)

    def _candidates(self, text: NDArray[np.int32]) -> Iterator[tuple[int, Places]]:
        """Yield starts in a text, and the places with the same fingerprint, if there are any."""
        if len(text) < SHORTEST or not len(self._places):
            return
        wanted = _fingerprints(sliding_window_view(text, GRAM))
        firsts, stops = self._search(wanted, "left"), self._search(wanted, "right")
        for start in np.flatnonzero(firsts < stops).tolist():
            yield start, self._places[firsts[start] : stops[start]].astype(np.int64)

    def _search(self, wanted: Fingerprints, side: str) -> Places:
        """Return where fingerprints would be inserted in the index, as numpy's searchsorted."""
        low = np.zeros(len(wanted), np.int64)
        high = np.full(len(wanted), len(self._places))
        while (low < high).any():
            middle = np.minimum((low + high) // 2, len(self._places) - 1)
            there = _grams(self._ids, self._places[middle])
            after = there < wanted if side == "left" else there <= wanted
            open_ = low < high
            low = np.where(open_ & after, middle + 1, low)
            high = np.where(open_ & ~after, middle, high)
        return low

    def _agreeing(self, text: NDArray[np.int32], places: Places, step: int) -> Places:
        """Return at how many ids in a row, by ``step``, the long text from ``places`` on agrees."""
        lengths, left = np.zeros(len(places), np.int64), np.arange(len(places))
        for done, wanted in enumerate(text.tolist()):
            there = places[left] + step * done
            left = left[(there >= 0) & (there < len(self._ids))]
            left = left[self._ids[places[left] + step * done] == wanted]
            if not len(left):
                break
            lengths[left] += 1
        return lengths


def _count(ids: Ids) -> int:
    """Return the number of places in the index of a text."""
    return max(0, (len(ids) - GRAM) // STRIDE + 1)


def _dtype(ids: Ids) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u4") if len(ids) < 2**32 else np.dtype("<u8")


def _portions(count: int) -> Iterator[Places]:
    """Yield all places of an index, in order."""
    for first in range(0, count, AT_ONCE):
        yield STRIDE * np.arange(first, min(first + AT_ONCE, count))


def _grams(ids: Ids, places: NDArray[np.integer]) -> Fingerprints:
    """Return the fingerprints of the GRAM ids at some places of a text, (N,)."""
    return _fingerprints(sliding_window_view(ids, GRAM)[places])


def _fingerprints(grams: NDArray[np.integer]) -> Fingerprints:
    """Return the fingerprint of each row of ids, (N, GRAM)."""
    values = grams.astype(np.uint64) + np.uint64(1)
    return mixed((values * powers(BASE, GRAM)).sum(1, dtype=np.uint64))


def _bucket(fingerprints: Fingerprints, bits: int) -> Places:
    """Return the first bits of fingerprints."""
    if not bits:
        return np.zeros(len(fingerprints), np.int64)
    return (fingerprints >> np.uint64(64 - bits)).astype(np.int64)
