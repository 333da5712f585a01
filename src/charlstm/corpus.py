"""A text file -> an id file on disk, memory-mapped. The only room that reads texts.

Neither a text nor its ids are ever whole in memory. Knows no Keras and no run folders.
"""

import codecs
import hashlib
import io
import math
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.vocabulary import CODE_POINTS, FEWEST, Vocabulary, code_points, describe

Ids = NDArray[np.unsignedinteger]

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = 0xFEFF
MARKS = (  # the longer first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


@dataclass(frozen=True)
class Text:
    """An open text; to be encoded, its bytes must be such that they can be read twice."""

    name: str
    stream: BinaryIO

    def stamp(self) -> tuple[int, int]:
        """Return size in bytes and time of the last change in nanoseconds (0 if in memory)."""
        if isinstance(self.stream, io.BytesIO):
            return len(self.stream.getbuffer()), 0
        status = os.fstat(self.stream.fileno())
        return status.st_size, status.st_mtime_ns


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


def open_text(path: str) -> Text:
    """Open a text file.

    Raises CharlstmError where there is none that can be read twice.
    """
    if path == "-":
        raise CharlstmError("-: the text is read twice, so it must be a file, not standard input")
    text = open_once(path)
    if not stat.S_ISREG(os.fstat(text.stream.fileno()).st_mode):
        text.stream.close()
        raise CharlstmError(f"{path}: the text is read twice, so it must be a regular file")
    return text


def open_once(path: str) -> Text:
    """Open a text that is read once: any file, or, for ``-``, standard input.

    Raises CharlstmError where there is none.
    """
    try:
        return Text(path, open(0, "rb", closefd=False) if path == "-" else Path(path).open("rb"))
    except IsADirectoryError:
        raise CharlstmError(f"{path}: a directory; name a text file in it") from None
    except OSError as error:
        raise CharlstmError(f"{path}: {error.strerror}") from None


def demo_text() -> Text:
    """Return the text that every Python carries: the pages of its ``help()``, by name."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return Text("demo", io.BytesIO(text.encode()))


def encode(
    text: Text,
    ids_path: Path,
    advance: Callable[[int], object] | None = None,
    *,
    more: str = "",
) -> Corpus:
    """Write the ids of a text to a file and return the corpus, memory-mapped.

    The text is read twice: for its vocabulary, then to encode it. ``advance`` is told of every
    piece how many bytes it has, in both readings. The vocabulary also gets the characters ``more``.

    Raises CharlstmError for a text that is not UTF-8, empty, of a single distinct character, or
    that changes meanwhile. OSError, from writing, passes: the caller knows the folder.
    """
    size, mtime_ns = text.stamp()
    reader = _Reader(text, size, advance)
    totals = np.zeros(CODE_POINTS, np.int64)
    for points in reader.code_points():
        counted = np.bincount(points)
        totals[: len(counted)] += counted
    present = np.flatnonzero(totals)
    if len(present) < FEWEST:
        what = f"only {chr(present[0])!r}, over and over" if len(present) else "empty"
        raise CharlstmError(f"{text.name}: {what}; there is nothing to learn from it")
    vocabulary = Vocabulary("".join(sorted({*map(chr, present), *more})))
    again = _Reader(text, size, advance)
    with ids_path.open("wb") as file:
        for points in again.code_points():
            file.write(vocabulary.table.take(points).tobytes())
        file.flush()
        os.fsync(file.fileno())
    if again.sha256() != reader.sha256() or text.stamp() != (size, mtime_ns):
        raise _changed(text.name)
    return Corpus(
        vocabulary=vocabulary,
        counts=tuple(map(int, totals[code_points(vocabulary.characters)])),
        size=size,
        mtime_ns=mtime_ns,
        sha256=reader.sha256(),
        ids=np.memmap(ids_path, vocabulary.id_dtype, mode="r"),
    )


def reuse(text: Text, ids_path: Path, identity: Any, *, more: str | None = "") -> Corpus | None:
    """Return the corpus that an earlier encoding left, if it is of this text and whole, or None.

    ``identity`` is what ``Corpus.identity`` gave, read back from a file that may hold anything. A
    text with another time of change, or without one, must have the same SHA-256. ``more`` are the
    characters that the vocabulary must have beside those of the text; None: any.
    """
    match identity:
        case {
            "size": int(size),
            "mtime_ns": int(mtime_ns),
            "sha256": str(sha256),
            "vocabulary": str(characters),
            "counts": list(counts),
        } if list(characters) == sorted(set(characters)) and len(characters) >= FEWEST:
            vocabulary = Vocabulary(characters)
        case _:
            return None
    stamp = text.stamp()
    if stamp[0] != size or not ids_path.is_file() or not ids_path.stat().st_size:
        return None
    if (stamp[1] != mtime_ns or not mtime_ns) and not is_of(text, identity):
        return None
    ids: Ids = np.memmap(ids_path, np.uint8, mode="r")
    if len(ids) % vocabulary.id_dtype.itemsize:
        return None
    ids = ids.view(vocabulary.id_dtype)
    if _counts(ids, len(vocabulary)) != counts or not _explained(characters, counts, more):
        return None
    return Corpus(vocabulary, tuple(counts), *stamp, sha256, ids)


def is_of(text: Text, identity: Any) -> bool:
    """Tell, by its SHA-256, whether a text is the one that had an identity, as ``reuse`` has it."""
    match identity:
        case {"size": int(size), "sha256": str(sha256), "vocabulary": str()}:
            stamp = text.stamp()
            if stamp[0] != size:
                return False
            reader = _Reader(text, size)
            reader.read()
            return reader.sha256() == sha256 and text.stamp() == stamp
    return False


def _explained(characters: str, counts: list[int], more: str | None) -> bool:
    """Tell whether characters that the text has not are those, and all those, of ``more``."""
    present = {character for character, count in zip(characters, counts, strict=True) if count}
    return more is None or present | set(more) == set(characters)


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
            f"{len(ids):,} characters are too few: one step needs {needed:,}, so with --validation "
            f"{validation:g} the text must have {math.ceil(needed / share):,}; use a longer one, "
            "or reduce --batch-size, --sequence-length or --validation"
        )
    if len(ids) - first == 1:
        raise CharlstmError(
            f"--validation {validation:g}: leaves 1 character, which has nothing to predict; "
            "use a larger share, or 0"
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


class Reading:
    """One reading of a text for a model: its ids, and what the vocabulary does not have."""

    def __init__(self, text: Text, vocabulary: Vocabulary) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._unseen: dict[str, int] = {}  # where each is first, from 1
        self.skipped = 0

    def ids(self) -> Iterator[Ids]:
        """Yield the ids in pieces, each of shape (some,), without characters that have none.

        Raises CharlstmError for a text that is not UTF-8.
        """
        position = 1
        for points in _Reader(self._text, None).code_points():
            ids, known = self._vocabulary.look_up(points)
            if not known.all():
                self._note(points, np.flatnonzero(~known), position)
                ids = ids[known]
            position += len(points)
            yield ids

    def _note(
        self, points: NDArray[np.unsignedinteger], unseen: NDArray[np.intp], position: int
    ) -> None:
        self.skipped += len(unseen)
        distinct, first = np.unique(points[unseen], return_index=True)
        for point, where in sorted(zip(distinct, unseen[first], strict=True), key=lambda p: p[1]):
            self._unseen.setdefault(chr(point), position + int(where))

    def account(self, unknown: str) -> str:
        """Say what had to be left out of what was read; empty if nothing was.

        ``unknown`` is error or skip. Raises CharlstmError at error.
        """
        if not self.skipped:
            return ""
        shown = (f"{describe(c)} at character {at:,}" for c, at in self._unseen.items())
        listed = f"what the model has never seen: {', '.join(shown)}"
        if unknown == "error":
            raise CharlstmError(
                f"{self._text.name}: it has {listed}; leave it out, or say --unknown skip"
            )
        return f"{self._text.name}: left out {self.skipped:,} of {listed}"


class _Reader:
    """One reading of a text, from its start to the size it had when it was opened.

    Without a size, of a text that is read once, to its end.
    """

    def __init__(
        self, text: Text, size: int | None, advance: Callable[[int], object] | None = None
    ) -> None:
        self._text = text
        self._size = size
        self._advance = advance
        self._digest = hashlib.sha256()

    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self) -> None:
        """Read for the digest alone."""
        for _ in self._chunks():
            pass

    def code_points(self) -> Iterator[NDArray[np.unsignedinteger]]:
        """Yield the code points in pieces, each of shape (some,); a byte order mark is dropped."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        offset, first = 0, True  # of the chunk, in the text; of the points
        for chunk in self._chunks():
            pending = len(decoder.getstate()[0])
            if chunk.isascii() and not pending:
                points: NDArray[np.unsignedinteger] = np.frombuffer(chunk, np.uint8)
            else:
                points = code_points(self._decode(decoder, chunk, offset - pending))
            if len(points):
                yield points[1:] if first and points[0] == BYTE_ORDER_MARK else points
                first = False
            offset += len(chunk)
        self._decode(decoder, b"", offset - len(decoder.getstate()[0]), final=True)

    def _chunks(self) -> Iterator[bytes]:
        left = math.inf if self._size is None else self._size
        if self._size is not None:
            self._text.stream.seek(0)
        while left:
            try:
                chunk = self._text.stream.read(int(min(CHUNK_BYTES, left)))
            except OSError as error:
                raise CharlstmError(f"{self._text.name}: {error.strerror}") from None
            if not chunk and self._size is None:
                return
            if not chunk:
                raise _changed(self._text.name)
            self._digest.update(chunk)
            left -= len(chunk)
            yield chunk
            if self._advance:
                self._advance(len(chunk))

    def _decode(
        self, decoder: codecs.IncrementalDecoder, chunk: bytes, offset: int, *, final: bool = False
    ) -> str:
        try:
            return decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            guess = "WINDOWS-1252"
            if offset == 0:
                guess = next((name for mark, name in MARKS if chunk.startswith(mark)), guess)
            # So does a text in another encoding that has its last such character there.
            cut = "it ends in the middle of a character; if it is not cut short but"
            unless = cut if final else "if it is"
            raise CharlstmError(
                f"{self._text.name}: not UTF-8: byte 0x{error.object[error.start]:02X} at offset "
                f"{offset + error.start:,}; {unless} {guess}, convert it with: "
                f"iconv -f {guess} -t UTF-8 {shlex.quote(self._text.name)} > utf8.txt"
            ) from None


def _changed(name: str) -> CharlstmError:
    return CharlstmError(
        f"{name}: changed while it was read; start again when nothing writes to it"
    )
