"""A file that a command is told to write: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from charlstm import files
from charlstm.cli._stdio import write_text
from charlstm.errors import CharlstmError


def check_file(path: str, *read: str | Path) -> None:
    """Refuse, before the work is done, what cannot be written, is no file, or is ``read`` itself.

    Raises CharlstmError.
    """
    if is_stdout(path):
        return
    with files.named_refusal(path):
        target = _target(path)
        if not target.parent.is_dir():
            raise CharlstmError(f"{path}: there is no folder {target.parent}", "make it first")
        with contextlib.suppress(FileNotFoundError):  # then it will be a new one
            status = target.stat()
            if not stat.S_ISREG(status.st_mode):
                raise CharlstmError(f"{path}: not a regular file", "name another")
            if any(_is(status, name) for name in read):
                raise CharlstmError(f"{path}: it is what is read", "name another file to write")


def write_to(path: str | None, content: str) -> None:
    """Write a text as UTF-8 to a file, or to standard output; through links.

    Raises CharlstmError.
    """
    if path is None or is_stdout(path):
        write_text(content)
        return
    with files.named_refusal(path):
        files.replace_file(_target(path), content.encode())


def is_stdout(path: str) -> bool:
    """Tell whether a name stands for standard output: - and what systems call it."""
    return path in {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}


def _target(path: str) -> Path:
    """Return what a name stands for; of a circle of links, the name."""
    return Path(os.path.realpath(path))


def _is(status: os.stat_result, name: str | Path) -> bool:
    """Tell whether a file is the one that has a name, if any has; of -, standard input."""
    try:
        return os.path.samestat(status, os.fstat(0) if name == "-" else Path(name).stat())
    except OSError:
        return False  # whoever reads it will say so
