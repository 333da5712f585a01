"""The id file: an encoded text on disk, memory-mapped; the split into training and validation.

The text and its ids are streamed; neither is ever held in memory as a whole. Knows neither Keras
nor run folders.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from charlstm import files
from charlstm.errors import CharlstmError
from charlstm.text.collection import Input
from charlstm.text.counting import vocabulary_of
from charlstm.text.detection import CONTROLS
from charlstm.text.encoder import encoder_of
from charlstm.text.records import Records, find_records
from charlstm.text.source import BYTE_ORDER_MARK, CHUNK_BYTES, UTF8, Advance, Ids, changed
from charlstm.text.vocabulary import Vocabulary

MARK = chr(BYTE_ORDER_MARK)
MANY_CONTROLS = 0.01  # share of control characters that is worth a note


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
    encoding: str = UTF8
    min_count: int = 1
    end: str = ""

    @cached_property
    def records(self) -> Records:
        """The records of the text, if it consists of records, which end with ``end``."""
        return find_records(self.ids, self.vocabulary.encode(self.end).astype(self.ids.dtype))

    def identity(self) -> dict[str, Any]:
        """Return the data that identify this text, for JSON."""
        return {
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "sha256": self.sha256,
            "vocabulary": self.vocabulary.characters,
            "counts": list(self.counts),
            "id_bytes": self.ids.dtype.itemsize,
            "encoding": self.encoding,
            "min_count": self.min_count,
            "unknown": self.vocabulary.has_unknown,
            "end": self.end,
        }


def encode(
    text: Input,
    ids_path: Path | Callable[[Vocabulary, str], Path],
    advance: Advance | None = None,
    *,
    min_count: int = 1,
    known: Vocabulary | None = None,
) -> Corpus:
    """Write the ids of a text to a file and return the corpus, memory-mapped.

    The file can be chosen by the vocabulary and the SHA-256 of the text. The text is read twice:
    for its vocabulary, then to encode it. ``advance`` is that of an Encoder. Characters that occur
    fewer than ``min_count`` times share an id, apart from those of ``known``, all of which the
    vocabulary gets.

    Raises CharlstmError for a text that is not in its encoding, is empty, has only one distinct
    character, or changes meanwhile. Raises OSError if writing fails; the caller names the folder.
    """
    size, mtime_ns = text.stamp()
    with encoder_of(text, size, advance) as encoder:
        totals = encoder.count()
        vocabulary = vocabulary_of(text.name, totals, min_count, known or Vocabulary(""))
        path = ids_path if isinstance(ids_path, Path) else ids_path(vocabulary, encoder.sha256)
        with files.replacing(path) as file:
            encoder.write(vocabulary, file)
            if text.stamp() != (size, mtime_ns):
                raise changed(text.name)
    counts = np.bincount(vocabulary.table, totals, len(vocabulary)).astype(np.int64)
    ids = np.memmap(path, vocabulary.id_dtype, mode="r")
    stamp = size, mtime_ns, encoder.sha256
    how = text.encoding, min_count, text.end
    return Corpus(vocabulary, tuple(counts.tolist()), *stamp, ids, *how)


def oddities(corpus: Corpus) -> list[str]:
    """Return notes on what few texts are meant to have, and how to change it."""
    counts = dict(zip(corpus.vocabulary.characters, corpus.counts, strict=True))
    returns, newlines = counts.get("\r", 0), counts.get("\n", 0)
    controls = sum(counts.get(chr(control), 0) for control in CONTROLS)
    notes = []
    if returns and not newlines:
        notes.append(
            "its lines end in CR alone, as on the classic Mac; tr '\\r' '\\n' converts them"
        )
    elif returns and returns != newlines:
        notes.append("it mixes CRLF and LF line endings; tr -d '\\r' makes all of them LF")
    if counts.get(MARK):
        notes.append(
            f"{counts[MARK]:,} byte order marks (U+FEFF) are inside it; sed 's/\\xef\\xbb\\xbf//g' "
            "removes them"
        )
    if controls > MANY_CONTROLS * len(corpus.ids):
        share = controls / len(corpus.ids)
        notes.append(
            f"{share:.1%} of its characters are control characters; if it should be plain text, "
            "tr -d '\\000-\\010\\016-\\037' removes them"
        )
    return notes


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
    counts = np.array(counts_of(part, len(corpus.vocabulary)))
    return corpus.vocabulary.decode(np.flatnonzero((counts > 0) & (counts == corpus.counts)))


def counts_of(ids: Ids, vocab_size: int) -> list[int]:
    """Return the number of occurrences of each id; empty if an id is outside the vocabulary."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(ids), CHUNK_BYTES):
        counted = np.bincount(ids[start : start + CHUNK_BYTES], minlength=vocab_size)
        if len(counted) > vocab_size:
            return []
        counts += counted
    return counts.tolist()
