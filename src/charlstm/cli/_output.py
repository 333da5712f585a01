"""The output file of a command, written atomically."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import click

from charlstm import files
from charlstm.cli._stdio import tell, write_text
from charlstm.errors import CharlstmError


def check_file(path: str, *read: str | Path) -> None:
    """Check an output path before the work starts; ``read`` are the input files.

    Raises CharlstmError if its folder is missing, it is no regular file, or it is an input file.
    """
    if is_stdout(path):
        return
    with files.write_errors(path):
        target = target_of(path)
        if not target.parent.is_dir():
            raise CharlstmError(f"{path}: there is no folder {target.parent}", "create it first")
        with contextlib.suppress(FileNotFoundError):  # a new file
            status = target.stat()
            if not stat.S_ISREG(status.st_mode):
                raise CharlstmError(f"{path}: not a regular file", "choose another")
            if any(_is_same(status, name) for name in read):
                raise CharlstmError(f"{path}: is also an input", "choose another output file")


def write_to(path: str | None, content: str) -> None:
    """Write a text as UTF-8 to a file, following links, or to standard output.

    Raises CharlstmError if the file cannot be written.
    """
    if path is None or is_stdout(path):
        write_text(content)
        return
    with files.write_errors(path):
        files.replace_file(target_of(path), content.encode())


def is_stdout(path: str) -> bool:
    """Tell whether a path means standard output: - or a name of its device."""
    return path in {"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}


def beside_page(html: str | None, *, json: bool) -> Callable[[str], None]:
    """Return what writes a table: on standard error if the page goes to standard output.

    Raises click.UsageError if both the page and JSON would go there.
    """
    if not html or not is_stdout(html):
        return write_text
    if json:
        raise click.UsageError("--json and --html would both be written to standard output.")
    return lambda table: tell(table.removesuffix("\n"))


def target_of(path: str) -> Path:
    """Follow the links of a path, unless they form a circle."""
    return Path(os.path.realpath(path))


def _is_same(status: os.stat_result, name: str | Path) -> bool:
    """Tell whether ``status`` is that of the file ``name``, which need not exist (-: stdin)."""
    try:
        return os.path.samestat(status, os.fstat(0) if name == "-" else Path(name).stat())
    except OSError:
        return False  # reported when it is read
