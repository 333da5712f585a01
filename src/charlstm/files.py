"""A file that is replaced as a whole, durably. With ``folders``, the only room that writes.

At every moment the old or the new one is there, also after a power cut; what a killed process
leaves is under a hidden name. Knows no file's meaning.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from charlstm.errors import CharlstmError

TEMPORARY = r"\..*\.tmp"  # what a file in the making is called
NAME_BYTES = 128  # of a name that hidden names repeat; file systems allow 255 in all
# How file systems say that they cannot sync a folder: CIFS, FUSE, shares of virtual machines.
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def named_refusal(path: Path | str, hint: str = "") -> contextlib.AbstractContextManager[None]:
    """Turn what the system refuses to write into one line that names the place.

    Raises CharlstmError instead of OSError.
    """
    return named_reading(f"{path}: cannot be written", hint)


@contextlib.contextmanager
def named_reading(path: Path | str, hint: str = "") -> Iterator[None]:
    """Turn what the system refuses to read into one line that names the place.

    Raises CharlstmError instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise CharlstmError(f"{path}: {error.strerror or error}", hint) from None


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file, as ``replacing`` does.

    Raises OSError.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that has its name when it is whole; one that is replaced hands on its mode.

    Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(".tmp", f".{shortened(path.name)}.", path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), _mode_for(path))
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - Path.replace is that, with another name
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move_file(new: Path, path: Path) -> None:
    """Give a file that is written its name; one that is replaced hands on its mode.

    Raises OSError.
    """
    new.chmod(_mode_for(path))
    sync(new)
    new.replace(path)
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line of ASCII to a file; ``sync`` makes it survive a power cut.

    Raises OSError.
    """
    with path.open("ab") as file:
        file.write(line.encode("ascii") + b"\n")


def truncate(path: Path, length: int) -> None:
    """Cut a file back to its first bytes.

    Raises OSError.
    """
    os.truncate(path, length)


def link_or_copy(old: Path, new: Path) -> None:
    """Give a file a second name; where the file system has no hard links, make a copy.

    Raises OSError.
    """
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut.

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
    """Make the names in a folder survive a power cut, where the file system can.

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
    """Return the mode of a file, or, if there is none yet, that of a new one."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return 0o666 & ~mask


def shortened(name: str) -> str:
    """Return a name that leaves room for more; no two names are shortened alike."""
    encoded = os.fsencode(name)
    shortened = encoded[:NAME_BYTES].decode(errors="ignore")
    if shortened == name:
        return name
    return f"{shortened}-{hashlib.sha256(encoded).hexdigest()[:16]}"
