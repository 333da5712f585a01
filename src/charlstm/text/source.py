"""Open and decode a text, and report what is wrong with it and where.

The only module that reads texts. Knows none of the program's own files.
"""

import codecs
import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, one_line
from charlstm.files import read_errors
from charlstm.text.compression import DAMAGED
from charlstm.text.detection import SAMPLE, START, advice, shown_encoding, wide_encoding
from charlstm.text.vocabulary import code_points

CodePoints = NDArray[np.unsignedinteger]
Ids = NDArray[np.unsignedinteger]

Advance = Callable[[int], object]
Update = Callable[[bytes], object]

UTF8 = "utf-8"
CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = 0xFEFF
NEWLINE = ord("\n")
CONTINUATION = range(0x80, 0xC0)  # the bytes of a character of UTF-8 after its first
CONTINUATION_BYTES = 3  # at most


@dataclass(frozen=True)
class Text:
    """An open text; to encode it, its stream must be seekable.

    ``stream`` has its bytes. If ``file`` is compressed, they are those of its content. ``end`` ends
    each record, if the text consists of records. Only ``byte_range`` of them is read, if given.
    """

    name: str
    stream: BinaryIO
    encoding: str = UTF8
    file: BinaryIO | None = None
    end: str = ""
    byte_range: range | None = None
    has_pipes: ClassVar[bool] = False

    def stamp(self) -> tuple[int, int]:
        """Return the size in bytes and the modification time in nanoseconds (0 if in memory)."""
        if isinstance(self.stream, io.BytesIO):
            return len(self.stream.getbuffer()), 0
        status = os.fstat(self.stream.fileno())
        return status.st_size, status.st_mtime_ns

    def reader(self, advance: Advance | None = None, digest: Update | None = None) -> "Reader":
        """Return a new pass over the text, from its start; the arguments are those of Reader."""
        size = math.inf if self.is_compressed else self.stamp()[0]
        if self.byte_range is not None:
            size = len(self.byte_range)
        return Reader(self, size, advance, digest)

    def character_at(self, offset: int) -> int:
        """Return the offset of the first character of UTF-8 that begins at ``offset`` or later."""
        with read_errors(self.name):
            self.stream.seek(offset)
            following = self.stream.read(CONTINUATION_BYTES)
        return offset + len([*takewhile(CONTINUATION.__contains__, following)])

    @property
    def path(self) -> str:
        """The path that names its run."""
        return self.name

    def spooled(self, _folder: Path) -> AbstractContextManager["Text"]:
        """Return this text: it can be read twice."""
        return nullcontext(self)

    @property
    def is_compressed(self) -> bool:
        """Whether the bytes of the text are not those of its file."""
        return self.file is not None and self.file is not self.stream


class Reader:
    """One pass over the first ``size`` bytes of a text, or all of it if that is infinite.

    It starts at the byte range of the text, if it has one. If ``size`` is None, it reads from the
    current position to the end; the stream need not seek. ``advance`` is called with the number of
    bytes read from the file, ``digest`` with the bytes of the text.
    """

    def __init__(
        self,
        text: Text,
        size: float | None,
        advance: Advance | None = None,
        digest: Update | None = None,
    ) -> None:
        self._text = text
        self._size = size
        self._advance = advance
        self._digest = digest
        self._start = text.byte_range.start if text.byte_range else 0
        self._head = b""
        self._lines = self._columns = 0  # before the current chunk, without the ``uncounted``
        # Counted when more follows, or for an error: never in thousands of small files.
        self._uncounted: CodePoints = np.zeros(0, np.uint8)

    def read(self) -> None:
        """Read all of the text, for its digest alone."""
        for _ in self._chunks():
            pass

    def code_points(self) -> Iterator[CodePoints]:
        """Yield the code points in chunks of any length; a leading byte order mark is dropped.

        Raises CharlstmError for a text of another encoding, one that cannot be read, or that has
        become shorter.
        """
        utf8 = self._text.encoding == UTF8
        decoder = codecs.getincrementaldecoder(self._text.encoding)()
        offset = pending = 0  # of the chunk; bytes before it that begin a character
        first = not self._start  # whether no code points of the text were yielded yet
        for chunk in self._chunks():
            self._count_lines()
            if not self._start + offset:
                self._look_at(chunk)
            if utf8 and not pending and chunk.isascii():
                points: CodePoints = np.frombuffer(chunk, np.uint8)
            else:
                points = code_points(self._decode(decoder, chunk, offset - pending))
                pending = len(decoder.getstate()[0])
            self._uncounted = points
            if len(points):
                yield points[1:] if first and points[0] == BYTE_ORDER_MARK else points
                first = False
            offset += len(chunk)
        self._decode(decoder, b"", offset - pending, final=True)

    def _look_at(self, chunk: bytes) -> None:
        """Refuse UTF-16 or UTF-32 without a byte order mark, which can be valid UTF-8."""
        self._head = chunk[:SAMPLE]
        encoding = wide_encoding(chunk[:START]) if self._text.encoding == UTF8 else ""
        if encoding:
            problem = f"{self._text.name}: not UTF-8 but {encoding} without a byte order mark"
            raise CharlstmError(problem, f"use {{encoding}} {encoding.lower()}")

    def _chunks(self) -> Iterator[bytes]:
        compressed = self._text.file if self._text.is_compressed else None
        left = math.inf if self._size is None else self._size
        if self._size is not None:
            self._text.stream.seek(self._start)
        before = 0
        while left:
            try:
                chunk = self._text.stream.read(int(min(CHUNK_BYTES, left)))
            except (OSError, *DAMAGED) as error:
                reason = getattr(error, "strerror", None) or f"damaged: {one_line(error)}"
                raise CharlstmError(f"{self._text.name}: {reason}") from None
            if not chunk and left == math.inf:
                return
            if not chunk:
                raise changed(self._text.name)
            if self._digest:
                self._digest(chunk)
            left -= len(chunk)
            yield chunk
            if self._advance:
                after = compressed.tell() if compressed else before + len(chunk)
                self._advance(after - before)
                before = after

    def _decode(
        self, decoder: codecs.IncrementalDecoder, chunk: bytes, offset: int, *, final: bool = False
    ) -> str:
        try:
            return decoder.decode(chunk, final)
        except UnicodeDecodeError as error:
            before, rest = error.object[: error.start], error.object[error.start :]
            used = shown_encoding(self._text.encoding)
            hint = advice(self._head, (before, rest), self._text.name, used, ends=final)
            raise CharlstmError(
                f"{self._text.name}: not {used}: byte 0x{rest[0]:02X} at offset "
                f"{offset + error.start:,}, {self._place(before)}",
                hint,
            ) from None
        except UnicodeError as error:  # UTF-16 without a byte order mark
            raise CharlstmError(
                f"{self._text.name}: {one_line(error)}",
                advice(self._head, (b"", chunk), self._text.name, "UTF-16", ends=final),
            ) from None

    def _count_lines(self) -> None:
        """Move line and column past the chunk that is not counted yet."""
        if not len(self._uncounted):
            return
        ends = self._uncounted == NEWLINE
        newlines = int(np.count_nonzero(ends))  # 12 times as fast as bytes.count
        self._lines += newlines
        self._columns = int(ends[::-1].argmax()) if newlines else self._columns + len(ends)
        self._uncounted = self._uncounted[:0]

    def _place(self, before: bytes) -> str:
        """Return the line and column that follow the bytes ``before`` of the current chunk."""
        self._count_lines()
        text = before.decode(self._text.encoding, "replace")
        newlines = text.count("\n")
        column = len(text) - text.rfind("\n") - 1 if newlines else self._columns + len(text)
        return f"line {self._lines + newlines + 1:,}, column {column + 1:,}"


def keep_buffers() -> None:
    """Let the C library reuse the memory of chunks, which saves a fifth of the time to encode them.

    glibc gives blocks of memory back to the system if they are larger than all that were freed
    before, and then each of their pages costs a page fault again.
    """
    np.empty(8 * CHUNK_BYTES, np.uint8)


def changed(name: str) -> CharlstmError:
    """Return the error for a text that changed while it was being read."""
    return CharlstmError(
        f"{name}: changed while it was being read", "try again when nothing is writing to it"
    )
