"""The standard streams: open, forgiving, and free of what a terminal would obey."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from charlstm.text.display import visible


class _Stderr(io.FileIO):
    """Standard error whose reader may go away: that costs the messages, and nothing else."""

    def write(self, content: Any) -> int:
        try:
            super().write(content)
        except OSError:  # a pipe or a terminal that is closed, a full disk
            return len(content)
        return len(content)


def open_streams() -> None:
    """Open what is closed of the standard streams, or the next file would take its number.

    What is written goes nowhere; what is read is an error, as of a stream that is closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - for as long as the program runs
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    raw = io.BufferedWriter(_Stderr(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", write_through=True)


def discard_output() -> None:
    """Let nothing more be written where nothing can be, not even when Python exits."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def tell(line: str) -> None:
    """Print a line on standard error."""
    click.echo(visible(line), err=True)


def write_text(text: str) -> None:
    """Write text to standard output as UTF-8, whatever the locale, and at once.

    A terminal is shown what it would obey; a pipe or a file gets every character as it is.
    """
    write_raw(visible(text) if sys.stdout.isatty() else text)


def write_raw(text: str) -> None:
    """Write text to standard output as UTF-8, with what a terminal shall obey."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
