"""Count the characters of a text, and choose its vocabulary."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.text.source import CodePoints
from charlstm.text.vocabulary import BLOCK, CODE_POINTS, FEWEST, UNKNOWN, Vocabulary

Counts = NDArray[np.int64]  # by code point, shape (CODE_POINTS,)


def count(chunks: Iterator[CodePoints]) -> Counts:
    """Return the number of occurrences of each code point."""
    totals = np.zeros(CODE_POINTS, np.int64)
    pairs = np.zeros(2**16, np.int64)
    for points in chunks:
        rest = points
        if points.dtype == np.uint8:
            # To count pairs takes half the time, and a sum over each half of them is the result.
            even = len(points) // 2 * 2
            _add_counts(pairs, points[:even].view(np.uint16))
            rest = points[even:]
        _add_counts(totals, rest)
    square = pairs.reshape(256, 256)
    totals[:256] += square.sum(0) + square.sum(1)
    return totals


def _add_counts(counts: NDArray[np.int64], values: CodePoints) -> None:
    """Add the number of occurrences of each value; this takes two thirds of bincount's time."""
    for start in range(0, len(values), BLOCK):
        np.add.at(counts, values[start : start + BLOCK].astype(np.intp), 1)


def vocabulary_of(name: str, counts: Counts, min_count: int, known: Vocabulary) -> Vocabulary:
    """Return the vocabulary of a text, plus that of ``known``.

    Raises CharlstmError for a text with fewer than two distinct characters, or with surrogates.
    """
    present = np.flatnonzero(counts)
    if len(present) < FEWEST:
        what = f"{chr(present[0])!r} is its only character" if len(present) else "empty"
        raise CharlstmError(f"{name}: {what}", "there is nothing to learn from it")
    if counts[0xD800:0xE000].any():  # some of Python's codecs let them pass
        raise CharlstmError(
            f"{name}: has surrogates, which are not characters", "use another {encoding}"
        )
    characters = {*map(chr, np.flatnonzero(counts >= min_count)), *known.characters}
    has_unknown = known.has_unknown or not characters.issuperset(map(chr, present))
    if has_unknown:
        characters.add(UNKNOWN)
    if len(characters) < FEWEST:
        raise CharlstmError(
            f"{name} has no character {min_count:,} times",
            "use a smaller number",
            option="min_count",
        )
    return Vocabulary("".join(sorted(characters)), has_unknown)
