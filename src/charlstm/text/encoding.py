"""The id file: a text encoded on disk, memory-mapped; which part of it is for validation.

Neither a text nor its ids are ever whole in memory. Knows no Keras and no run folders.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.errors import CharlstmError
from charlstm.text.source import CHUNK_BYTES, Ids, Reader, Text, changed
from charlstm.text.vocabulary import CODE_POINTS, FEWEST, Vocabulary, code_points


@dataclass(frozen=True)
class Corpus:
    """An encoded text.

    ``counts[i]`` is how often the character with id ``i`` occurs; ``ids`` has shape (N,) and
    stays on disk.
    """

    vocabulary: Vocabulary
    counts: tuple[int, ...]
    size: int
    mtime_ns: int
    sha256: str
    ids: Ids

    def identity(self) -> dict[str, Any]:
        """Return what tells this text from any other, for JSON."""
        return {
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "sha256": self.sha256,
            "vocabulary": self.vocabulary.characters,
            "counts": list(self.counts),
            "id_bytes": self.ids.dtype.itemsize,
        }


def encode(
    text: Text,
    ids_path: Path,
    advance: Callable[[int], object] | None = None,
    *,
    extra: str = "",
) -> Corpus:
    """Write the ids of a text to a file and return the corpus, memory-mapped.

    The text is read twice: for its vocabulary, then to encode it. ``advance`` is told of every
    piece how many bytes it has, in both readings. The vocabulary also gets the characters of
    ``extra``.

    Raises CharlstmError for a text that is not UTF-8, empty, of a single distinct character, or
    that changes meanwhile. OSError, from writing, passes: the caller knows the folder.
    """
    size, mtime_ns = text.stamp()
    reader = Reader(text, size, advance)
    totals = _count(reader)
    vocabulary = _vocabulary(text.name, totals, extra)
    again = Reader(text, size, advance)
    with files.replacing(ids_path) as file:
        for points in again.code_points():
            file.write(vocabulary.table.take(points).tobytes())
        if again.sha256() != reader.sha256() or text.stamp() != (size, mtime_ns):
            raise changed(text.name)
    return Corpus(
        vocabulary=vocabulary,
        counts=tuple(map(int, totals[code_points(vocabulary.characters)])),
        size=size,
        mtime_ns=mtime_ns,
        sha256=reader.sha256(),
        ids=np.memmap(ids_path, vocabulary.id_dtype, mode="r"),
    )


def odd_line_ends(corpus: Corpus) -> str:
    """Say that the lines of a text end as few programs expect; empty if they do not."""
    counts = dict(zip(corpus.vocabulary.characters, corpus.counts, strict=True))
    returns, newlines = counts.get("\r", 0), counts.get("\n", 0)
    if returns and not newlines:
        return (
            "its lines end with a carriage return alone, as on the old Mac; tr '\\r' '\\n' mends it"
        )
    if returns and returns != newlines:
        return "its lines end in two ways, with and without a carriage return; tr -d '\\r' mends it"
    return ""


def _count(reader: Reader) -> NDArray[np.int64]:
    """Return how often each code point occurs, shape (CODE_POINTS,)."""
    totals = np.zeros(CODE_POINTS, np.int64)
    for points in reader.code_points():
        counted = np.bincount(points)
        totals[: len(counted)] += counted
    return totals


def _vocabulary(name: str, totals: NDArray[np.int64], extra: str) -> Vocabulary:
    """Return the vocabulary of a text in which code points occur so often, and of ``extra``.

    Raises CharlstmError for a text in which there is nothing to learn.
    """
    present = np.flatnonzero(totals)
    if len(present) < FEWEST:
        what = f"only {chr(present[0])!r}, over and over" if len(present) else "empty"
        raise CharlstmError(f"{name}: {what}", "there is nothing to learn from it")
    return Vocabulary("".join(sorted({*map(chr, present), *extra})))


def reuse(text: Text, ids_path: Path, identity: Any, *, extra: str | None = "") -> Corpus | None:
    """Return the corpus that an earlier encoding left, if it is of this text and whole, or None.

    ``identity`` is what ``Corpus.identity`` gave, read back from a file that may hold anything. A
    text with another time of change, or without one, must have the same SHA-256. ``extra`` are the
    characters that the vocabulary must have beside those of the text; None: any.
    """
    stamp = text.stamp()
    match identity:
        case {"size": int(size), "mtime_ns": int(), "sha256": str(sha256)} if size == stamp[0]:
            stored = stored_ids(ids_path, identity)
        case _:
            return None
    if not stored or not is_unchanged(text, identity):
        return None
    vocabulary, ids = stored
    counts = identity["counts"]
    if not _has_exactly(vocabulary.characters, counts, extra):
        return None
    return Corpus(vocabulary, tuple(counts), *stamp, sha256, ids)


def stored_ids(ids_path: Path, identity: Any) -> tuple[Vocabulary, Ids] | None:
    """Return the ids in a file, memory-mapped, if they are those that an identity describes."""
    match identity:
        case {"vocabulary": str(characters), "counts": list(counts)} if (
            list(characters) == sorted(set(characters)) and len(characters) >= FEWEST
        ):
            vocabulary = Vocabulary(characters)
        case _:
            return None
    if not ids_path.is_file() or not ids_path.stat().st_size:
        return None
    ids: Ids = np.memmap(ids_path, np.uint8, mode="r")
    if len(ids) % vocabulary.id_dtype.itemsize:
        return None
    ids = ids.view(vocabulary.id_dtype)
    return (vocabulary, ids) if _counts(ids, len(vocabulary)) == counts else None


def is_unchanged(text: Text, identity: Any) -> bool:
    """Tell whether a text is the one that had an identity; it is read only if its times differ."""
    stamp = text.stamp()
    match identity:
        case {"size": int(size), "mtime_ns": int(mtime)} if mtime and (size, mtime) == stamp:
            return True
    return is_of(text, identity)


def is_of(text: Text, identity: Any) -> bool:
    """Tell, by its SHA-256, whether a text is the one that had an identity, as ``reuse`` has it."""
    match identity:
        case {"size": int(size), "sha256": str(sha256), "vocabulary": str()}:
            stamp = text.stamp()
            if stamp[0] != size:
                return False
            reader = Reader(text, size)
            reader.read()
            return reader.sha256() == sha256 and text.stamp() == stamp
    return False


def _has_exactly(characters: str, counts: list[int], extra: str | None) -> bool:
    """Tell whether the vocabulary is exactly the text's characters plus ``extra``."""
    present = {character for character, count in zip(characters, counts, strict=True) if count}
    return extra is None or present | set(extra) == set(characters)


def split(ids: Ids, validation: float, *, needed: int) -> tuple[Ids, Ids]:
    """Cut ids into the first floor(N x (1 - validation)) for training and the rest.

    The fraction is taken as written: 0.1 is one tenth, not the nearest binary fraction.

    Raises CharlstmError if that leaves fewer than ``needed`` for training, or a validation part
    in which there is nothing to predict.
    """
    share = 1 - Fraction(repr(validation))
    first = training_characters(len(ids), validation)
    if first < needed:
        raise CharlstmError(
            f"{len(ids):,} characters are too few: one step needs {needed:,}, so with "
            f"{validation:g} of them for validation the text must have "
            f"{math.ceil(needed / share):,}",
            "use a longer one, or reduce {batch_size}, {sequence_length} or {validation}",
        )
    if len(ids) - first == 1:
        raise CharlstmError(
            f"{validation:g} leaves 1 character, which has nothing to predict",
            "use a larger share, or 0",
            option="validation",
        )
    return ids[:first], ids[first:]


def training_characters(count: int, validation: float) -> int:
    """Return how many of so many characters are for training."""
    return math.floor(count * (1 - Fraction(repr(validation))))


def only_in(part: Ids, corpus: Corpus) -> str:
    """Return the characters that the corpus has in this part and nowhere else."""
    counts = np.array(_counts(part, len(corpus.vocabulary)))
    return corpus.vocabulary.decode(np.flatnonzero((counts > 0) & (counts == corpus.counts)))


def _counts(ids: Ids, vocab_size: int) -> list[int]:
    """Return how often each id occurs; empty if there is one that no vocabulary entry has."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), CHUNK_BYTES):
        counted = np.bincount(ids[start : start + CHUNK_BYTES], minlength=vocab_size)
        if len(counted) > vocab_size:
            return []
        counts += counted
    return counts.tolist()
