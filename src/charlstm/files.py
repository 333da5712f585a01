"""Replace files atomically and durably. Knows nothing of the contents of files.

Files get their final names only here and in ``folders``, except the lock of a run and TensorBoard's
event files.

At every moment the old file or the new one exists, even after a power failure. A killed process
can leave a temporary file, under a hidden name.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from charlstm.errors import CharlstmError

TEMPORARY = r"\..*\.tmp"  # the names of temporary files
NAME_BYTES = 128  # of the original name in a hidden one; file systems allow 255 bytes in total
FULL = {errno.ENOSPC, errno.EDQUOT}
# Errors of file systems that cannot sync a folder: CIFS, FUSE, shares of virtual machines.
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def write_errors(path: Path | str, hint: str = "") -> contextlib.AbstractContextManager[None]:
    """Turn an OSError while writing into a one-line error that names the path.

    Raises CharlstmError instead of OSError.
    """
    return read_errors(f"{path}: cannot be written", hint)


@contextlib.contextmanager
def read_errors(path: Path | str, hint: str = "") -> Iterator[None]:
    """Turn an OSError while reading into a one-line error that names the path.

    Raises CharlstmError instead of OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            hint = "free some disk space and try again"
        raise CharlstmError(f"{path}: {error.strerror or error}", hint) from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file atomically, as ``replacing`` does.

    Raises OSError.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that gets the name ``path`` once it is complete and synced.

    A file of that name is replaced, and its mode is kept.

    Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(".tmp", f".{shortened(path.name)}.", path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        with temporary.open("w+b") as file:  # not by the descriptor: ``file.name`` is a path
            yield file
            file.flush()
            os.fchmod(file.fileno(), _mode_for(path))
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the same as Path.replace
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[BinaryIO]:
    """Open a new file in a folder, which is removed at the end.

    Raises OSError.
    """
    with tempfile.NamedTemporaryFile(prefix=".text.", suffix=".tmp", dir=folder) as file:
        yield cast(BinaryIO, file)


def move_file(new: Path, path: Path) -> None:
    """Move a finished file to ``path``; a file there is replaced, and its mode is kept.

    Raises OSError.
    """
    new.chmod(_mode_for(path))
    sync(new)
    new.replace(path)
    sync_folder(path.parent)


def write_at(path: Path, offset: int, chunks: Iterable[bytes | memoryview]) -> None:
    """Write chunks into a file that exists, from an offset on; other bytes of it are kept.

    Raises OSError.
    """
    with path.open("r+b") as file:
        file.seek(offset)
        file.writelines(chunks)


def append_line(path: Path, line: str) -> None:
    """Append one line of ASCII to a file; without ``sync``, a power failure can lose it.

    Raises OSError.
    """
    with path.open("ab") as file:
        file.write(line.encode("ascii") + b"\n")


def truncate(path: Path, length: int) -> None:
    """Truncate a file to its first ``length`` bytes.

    Raises OSError.
    """
    os.truncate(path, length)


def link_or_copy(old: Path, new: Path) -> None:
    """Hard-link a file to a second name, or copy it where hard links are unsupported.

    Raises OSError.
    """
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def sync(path: Path) -> None:
    """Make a file, or the directory entries of a folder, survive a power failure.

    Raises OSError.
    """
    if path.is_dir():
        sync_folder(path)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder survive a power failure, if the file system supports it.

    Raises OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _mode_for(path: Path) -> int:
    """Return the mode of a file, or the default mode of a new one if it does not exist."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0o077)  # setting the mask is the only way to read it
    os.umask(mask)
    return 0o666 & ~mask


def shortened(name: str) -> str:
    """Shorten a name so that a prefix and a suffix still fit; different names stay different."""
    encoded = os.fsencode(name)
    shortened = encoded[:NAME_BYTES].decode(errors="ignore")
    if shortened == name:
        return name
    return f"{shortened}-{hashlib.sha256(encoded).hexdigest()[:16]}"
