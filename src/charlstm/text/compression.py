"""Read compressed texts as streams, recognised by their first bytes rather than their names."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from charlstm.errors import CharlstmError

DAMAGED = (EOFError, zlib.error, lzma.LZMAError)  # what the readers raise, besides OSError


def decompressed(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the text of a compressed stream as a stream; any other stream is returned as it is.

    Raises CharlstmError if the reader of the format is not installed, or the stream is unreadable.
    """
    if not isinstance(stream, io.BufferedReader):
        return stream
    try:
        head = stream.peek(HEAD)[:HEAD]
    except OSError as error:
        raise CharlstmError(f"{name}: {error.strerror}") from None
    found = MARKS.match(head)
    try:
        return cast(BinaryIO, READERS[found.lastindex or 0](stream)) if found else stream
    except ImportError:
        raise CharlstmError(
            f"{name}: a zstd file, and its reader is not installed", "pip install 'charlstm[zstd]'"
        ) from None


def _gzip(stream: BinaryIO) -> Any:
    return gzip.GzipFile(fileobj=stream)


def _zstd(stream: BinaryIO) -> Any:
    from backports.zstd import ZstdError, ZstdFile

    class Readable(ZstdFile):
        """Raises EOFError for damage, as the readers of other formats do."""

        def read(self, size: int | None = -1, /) -> bytes:
            try:
                return super().read(size)
            except ZstdError as error:
                raise EOFError(str(error)) from None

    return Readable(stream)


HEAD = 10  # bytes that tell the formats apart
MARKS = re.compile(rb"(\x1f\x8b)|(BZh[1-9]1AY&SY)|(\xfd7zXZ\0)|(\x28\xb5\x2f\xfd)")
READERS: dict[int, Callable[[BinaryIO], Any]] = {  # by the number of the mark
    1: _gzip,
    2: bz2.BZ2File,
    3: lzma.LZMAFile,
    4: _zstd,
}
