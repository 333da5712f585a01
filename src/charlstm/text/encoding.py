"""The id file: an encoded text on disk, memory-mapped; the split into training and validation.

The text and its ids are streamed; neither is ever held in memory as a whole. Knows neither Keras
nor run folders.
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

    ``counts[i]`` is the number of occurrences of the character with id ``i``; ``ids`` has shape
    (N,) and stays on disk.
    """

    vocabulary: Vocabulary
    counts: tuple[int, ...]
    size: int
    mtime_ns: int
    sha256: str
    ids: Ids

    def identity(self) -> dict[str, Any]:
        """Return the data that identify this text, for JSON."""
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

    The text is read twice: for its vocabulary, then to encode it. ``advance`` is called with the
    size of each chunk in bytes, in both passes. The vocabulary also gets the characters of
    ``extra``.

    Raises CharlstmError for a text that is not UTF-8, is empty, has only one distinct character,
    or changes meanwhile. Raises OSError if writing fails; the caller names the folder.
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


def line_end_note(corpus: Corpus) -> str:
    """Return a note on line endings that few programs expect; empty if there are none."""
    counts = dict(zip(corpus.vocabulary.characters, corpus.counts, strict=True))
    returns, newlines = counts.get("\r", 0), counts.get("\n", 0)
    if returns and not newlines:
        return "its lines end in CR alone, as on the classic Mac; tr '\\r' '\\n' converts them"
    if returns and returns != newlines:
        return "it mixes CRLF and LF line endings; tr -d '\\r' makes all of them LF"
    return ""


def _count(reader: Reader) -> NDArray[np.int64]:
    """Return the number of occurrences of each code point, shape (CODE_POINTS,)."""
    totals = np.zeros(CODE_POINTS, np.int64)
    for points in reader.code_points():
        counted = np.bincount(points)
        totals[: len(counted)] += counted
    return totals


def _vocabulary(name: str, totals: NDArray[np.int64], extra: str) -> Vocabulary:
    """Return the vocabulary of a text with these counts of code points, plus ``extra``.

    Raises CharlstmError for a text with fewer than two distinct characters.
    """
    present = np.flatnonzero(totals)
    if len(present) < FEWEST:
        what = f"{chr(present[0])!r} is its only character" if len(present) else "empty"
        raise CharlstmError(f"{name}: {what}", "there is nothing to learn from it")
    return Vocabulary("".join(sorted({*map(chr, present), *extra})))


def reuse(text: Text, ids_path: Path, identity: Any, *, extra: str | None = "") -> Corpus | None:
    """Return the corpus of an earlier encoding; None if it is damaged or not of this text.

    ``identity`` is the value of ``Corpus.identity``, read from an untrusted file. If the
    modification time differs or is unknown, the SHA-256 must match. ``extra`` are the characters
    that the vocabulary must have besides those of the text; with None, any are accepted.
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
    """Return the vocabulary and the memory-mapped ids of a file, or None if they do not match.

    ``identity`` describes the expected ids.
    """
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
    """Return whether a text matches an identity, by size and time, or else by SHA-256.

    ``identity`` is as in ``reuse``.
    """
    stamp = text.stamp()
    match identity:
        case {"size": int(size), "mtime_ns": int(mtime)} if mtime and (size, mtime) == stamp:
            return True
    return has_same_text(text, identity)


def has_same_text(text: Text, identity: Any) -> bool:
    """Return whether a text matches an identity by its SHA-256; ``identity`` is as in ``reuse``."""
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
    """Return whether the vocabulary is exactly the text's characters plus ``extra``."""
    present = {character for character, count in zip(characters, counts, strict=True) if count}
    return extra is None or present | set(extra) == set(characters)


def split(ids: Ids, validation: float, *, needed: int) -> tuple[Ids, Ids]:
    """Split ids into the first floor(N x (1 - validation)), for training, and the rest.

    The fraction is taken as written: 0.1 is one tenth, not the nearest binary fraction.

    Raises CharlstmError if that leaves fewer than ``needed`` ids for training, or a single id for
    validation, which needs two.
    """
    share = 1 - Fraction(repr(validation))
    first = training_characters(len(ids), validation)
    if first < needed:
        raise CharlstmError(
            f"{len(ids):,} characters are too few: one step needs {needed:,}, so with a validation "
            f"fraction of {validation:g} the text must have {math.ceil(needed / share):,}",
            "use a longer text, or reduce {batch_size}, {sequence_length} or {validation}",
        )
    if len(ids) - first == 1:
        raise CharlstmError(
            f"{validation:g} leaves 1 character for validation, which needs at least 2",
            "use a larger fraction, or 0",
            option="validation",
        )
    return ids[:first], ids[first:]


def training_characters(count: int, validation: float) -> int:
    """Return the number of training characters in a text of ``count`` characters."""
    return math.floor(count * (1 - Fraction(repr(validation))))


def only_in(part: Ids, corpus: Corpus) -> str:
    """Return the characters that occur in ``part`` of the corpus and nowhere else in it."""
    counts = np.array(_counts(part, len(corpus.vocabulary)))
    return corpus.vocabulary.decode(np.flatnonzero((counts > 0) & (counts == corpus.counts)))


def _counts(ids: Ids, vocab_size: int) -> list[int]:
    """Return the number of occurrences of each id; empty if an id is outside the vocabulary."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), CHUNK_BYTES):
        counted = np.bincount(ids[start : start + CHUNK_BYTES], minlength=vocab_size)
        if len(counted) > vocab_size:
            return []
        counts += counted
    return counts.tolist()
