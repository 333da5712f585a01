"""Open and decode a text, and report what is wrong with it and where.

The only module that reads texts. Knows none of the program's own files.
"""

import codecs
import hashlib
import io
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.text.detection import SAMPLE, advice, iconv, wide_encoding
from charlstm.text.vocabulary import code_points

CodePoints = NDArray[np.unsignedinteger]
Ids = NDArray[np.unsignedinteger]

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = 0xFEFF


@dataclass(frozen=True)
class Text:
    """An open text; to encode it, its stream must be seekable."""

    name: str
    stream: BinaryIO

    def stamp(self) -> tuple[int, int]:
        """Return the size in bytes and the modification time in nanoseconds (0 if in memory)."""
        if isinstance(self.stream, io.BytesIO):
            return len(self.stream.getbuffer()), 0
        status = os.fstat(self.stream.fileno())
        return status.st_size, status.st_mtime_ns


def open_text(path: str) -> Text:
    """Open a text file that can be read twice.

    Raises CharlstmError if there is none.
    """
    if path == "-":
        raise CharlstmError("-: the text is read twice, so it must be a file, not standard input")
    # Check before opening: to open a pipe without a writer would block forever.
    with suppress(OSError):
        if not stat.S_ISREG(mode := Path(path).stat().st_mode) and not stat.S_ISDIR(mode):
            raise CharlstmError(f"{path}: the text is read twice, so it must be a regular file")
    return open_once(path)


def open_once(path: str) -> Text:
    """Open a text to be read once: any file, or standard input for ``-``.

    Raises CharlstmError if it cannot be opened.
    """
    try:
        return Text(path, open(0, "rb", closefd=False) if path == "-" else Path(path).open("rb"))
    except IsADirectoryError:
        raise CharlstmError(f"{path}: is a directory", "name a text file in it") from None
    except OSError as error:
        raise CharlstmError(f"{path}: {error.strerror}") from None


def demo_text() -> Text:
    """Return a text that comes with Python: the topics of its ``help()``, sorted by name."""
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return Text("demo", io.BytesIO(text.encode()))


def text_in_memory(name: str, content: str) -> Text:
    """Return a text from a string.

    Reading drops one leading byte order mark, so one is added: a mark in ``content`` is kept.
    """
    return Text(name, io.BytesIO(content.encode("utf-8-sig")))


class Reader:
    """One pass over the first ``size`` bytes of a text.

    If ``size`` is None, it reads from the current position to the end; the stream need not seek.
    """

    def __init__(
        self, text: Text, size: int | None, advance: Callable[[int], object] | None = None
    ) -> None:
        self._text = text
        self._size = size
        self._advance = advance
        self._digest = hashlib.sha256()
        self._head = b""
        self._lines = self._columns = 0  # before the current chunk

    def sha256(self) -> str:
        """Return the SHA-256 of the bytes read so far."""
        return self._digest.hexdigest()

    def read(self) -> None:
        """Read all of the text, for its SHA-256 alone."""
        for _ in self._chunks():
            pass

    def code_points(self) -> Iterator[CodePoints]:
        """Yield the code points in chunks of any length; a leading byte order mark is dropped.

        Raises CharlstmError for a text that is not UTF-8, cannot be read, or has become shorter.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        offset, first = 0, True  # offset of the chunk; whether no code points were yielded yet
        for chunk in self._chunks():
            pending = len(decoder.getstate()[0])
            if not offset:
                self._look_at(chunk)
            if chunk.isascii() and not pending:
                points: CodePoints = np.frombuffer(chunk, np.uint8)
                self._follow(chunk.count(b"\n"), chunk.rfind(b"\n"), len(chunk))
            else:
                text = self._decode(decoder, chunk, offset - pending)
                points = code_points(text)
                self._follow(text.count("\n"), text.rfind("\n"), len(text))
            if len(points):
                yield points[1:] if first and points[0] == BYTE_ORDER_MARK else points
                first = False
            offset += len(chunk)
        self._decode(decoder, b"", offset - len(decoder.getstate()[0]), final=True)

    def _look_at(self, chunk: bytes) -> None:
        """Refuse UTF-16 or UTF-32 without a byte order mark, which can be valid UTF-8."""
        self._head = chunk[:SAMPLE]
        encoding = wide_encoding(self._head)
        if encoding:
            problem = f"{self._text.name}: not UTF-8 but {encoding} without a byte order mark"
            raise CharlstmError(problem, f"convert it with: {iconv(encoding, self._text.name)}")

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
                raise changed(self._text.name)
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
            before, rest = error.object[: error.start], error.object[error.start :]
            hint = advice(self._head, (before, rest), self._text.name, ends=final)
            raise CharlstmError(
                f"{self._text.name}: not UTF-8: byte 0x{rest[0]:02X} at offset "
                f"{offset + error.start:,}, {self._place(before)}; {hint}"
            ) from None

    def _follow(self, newlines: int, last: int, length: int) -> None:
        """Update line and column; ``last`` is the index of the chunk's last newline."""
        self._lines += newlines
        self._columns = length - last - 1 if newlines else self._columns + length

    def _place(self, before: bytes) -> str:
        """Return the line and column that follow the bytes ``before`` of the current chunk."""
        text = before.decode("utf-8", "replace")
        newlines = text.count("\n")
        column = len(text) - text.rfind("\n") - 1 if newlines else self._columns + len(text)
        return f"line {self._lines + newlines + 1:,}, column {column + 1:,}"


def changed(name: str) -> CharlstmError:
    """Return the error for a text that changed while it was being read."""
    return CharlstmError(
        f"{name}: changed while it was being read", "try again when nothing is writing to it"
    )
