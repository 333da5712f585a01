"""64-bit fingerprints of records, to tell whether a record is in a text without reading the text.

Two different records have the same fingerprint with a probability of about 2 ** -64.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.text.records import Records

Fingerprints = NDArray[np.uint64]

# A record's fingerprint is a polynomial over its ids, modulo 2 ** 64: the sums of all prefixes of a
# text give those of all records at once (Karp and Rabin 1987). BASE is odd, so it has an inverse.
BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 2**64)
AT_ONCE = 2**20  # ids


def fingerprints(records: Records) -> Fingerprints:
    """Return the fingerprint of each record, without its separator, (R,)."""
    parts = [_fingerprints(records, first, last) for first, last in _portions(records)]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def write_index(records: Records, path: Path) -> None:
    """Write the sorted fingerprints of records to a file, 8 bytes for each.

    Raises OSError.
    """
    with files.replacing(path) as file:
        file.write(np.unique(fingerprints(records)).astype("<u8").tobytes())


def read_index(path: Path) -> Fingerprints:
    """Memory-map the file of ``write_index``.

    Raises OSError.
    """
    size = path.stat().st_size // 8
    return np.memmap(path, "<u8", "r", shape=(size,)) if size else np.zeros(0, np.uint64)


def are_in(index: Fingerprints, some: Fingerprints) -> NDArray[np.bool_]:
    """Return which of some fingerprints are in a sorted index of at least one."""
    found: NDArray[np.bool_] = index[np.searchsorted(index[:-1], some)] == some
    return found


def _portions(records: Records) -> Iterator[tuple[int, int]]:
    """Yield ranges of records that together have about AT_ONCE ids."""
    first, count = 0, len(records.starts)
    while first < count:
        limit = records.starts[first] + AT_ONCE
        last = max(first + 1, int(np.searchsorted(records.ends, limit, "right")))
        yield first, last
        first = last


def _fingerprints(records: Records, first: int, last: int) -> Fingerprints:
    starts, ends = records.starts[first:last], records.ends[first:last] - len(records.separator)
    ids = np.asarray(records.ids[starts[0] : ends[-1]])
    # The last record can be empty, and begin where the ids end.
    factors, inverses = powers(BASE, len(ids)), powers(INVERSE, len(ids) + 1)
    values = mixed(ids.astype(np.uint64) + np.uint64(1))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values * factors)])
    begins, stops = starts - starts[0], ends - starts[0]
    return mixed((sums[stops] - sums[begins]) * inverses[begins])


def powers(base: int, count: int) -> Fingerprints:
    """Return base ** 0, base ** 1, ... modulo 2 ** 64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.multiply.accumulate(factors)


def mixed(values: Fingerprints) -> Fingerprints:
    """Spread each value over all bits (the finalizer of SplitMix64: Steele et al. 2014)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
