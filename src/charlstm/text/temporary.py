"""The ids of a text that is read once, in a temporary file: a text can be larger than memory."""

import tempfile
from typing import BinaryIO, cast

import numpy as np

from charlstm.errors import CharlstmError
from charlstm.text.reading import Reading, check_length
from charlstm.text.records import with_end
from charlstm.text.source import Ids

CHANGE_TMPDIR = "set TMPDIR to another folder"


def temporary_file() -> BinaryIO:
    """Return a temporary file for the ids of a text.

    Raises CharlstmError if it cannot be created.
    """
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError as error:
        raise CharlstmError(
            f"no folder for temporary files: {error.strerror}", CHANGE_TMPDIR
        ) from None


def write_ids(reading: Reading, file: BinaryIO, separator: Ids) -> None:
    """Write the ids of a text to a file, and ``separator``, unless it ends with that.

    Raises CharlstmError for a text that is not UTF-8, or if the disk is full.
    """
    try:
        file.writelines(ids.tobytes() for ids in with_end(reading.ids(), separator))
        file.flush()
    except OSError as error:
        raise CharlstmError(
            f"{tempfile.gettempdir()}: cannot store the encoded text: {error.strerror}",
            CHANGE_TMPDIR,
        ) from None


def mapped_ids(name: str, file: BinaryIO, dtype: np.dtype[np.unsignedinteger]) -> Ids:
    """Memory-map the ids in a file.

    Raises CharlstmError if they are too few to be scored.
    """
    check_length(name, file.tell() // dtype.itemsize)
    return np.memmap(file, dtype, mode="r")
