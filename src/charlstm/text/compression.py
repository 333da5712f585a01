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
    for mark, reader in READERS.items():
        if re.match(mark, head):
            return cast(BinaryIO, reader(stream))
    return stream


def _gzip(stream: BinaryIO) -> Any:
    return gzip.GzipFile(fileobj=stream)


def _zstd(stream: BinaryIO) -> Any:
    try:
        from backports.zstd import ZstdError, ZstdFile
    except ImportError:
        name = stream.name
        raise CharlstmError(
            f"{name}: a zstd file, and its reader is not installed", "pip install 'charlstm[zstd]'"
        ) from None

    class Readable(ZstdFile):
        """Raises EOFError for damage, as the readers of other formats do."""

        def read(self, size: int | None = -1, /) -> bytes:
            try:
                return super().read(size)
            except ZstdError as error:
                raise EOFError(str(error)) from None

    return Readable(stream)


HEAD = 10  # bytes that tell the formats apart
READERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    rb"\x1f\x8b": _gzip,
    rb"BZh[1-9]1AY&SY": bz2.BZ2File,
    rb"\xfd7zXZ\0": lzma.LZMAFile,
    rb"\x28\xb5\x2f\xfd": _zstd,
}
