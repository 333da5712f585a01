"""The standard streams: always open; stderr never fails; text is safe for terminals."""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from charlstm.text.display import visible


class _Stderr(io.FileIO):
    """Standard error that drops its messages when its reader is gone, instead of failing."""

    def write(self, content: Any) -> int:
        try:
            super().write(content)
        except OSError:  # a closed pipe or terminal, a full disk
            return len(content)
        return len(content)


def open_streams() -> None:
    """Open standard streams that are closed, or the next file would get their descriptors.

    Output to such a stream is discarded, and reading from it fails. ``sys.stderr`` is replaced by a
    stream that never fails.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # gets the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - for as long as the program runs
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    raw = io.BufferedWriter(_Stderr(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", write_through=True)


def discard_output() -> None:
    """Discard standard output from now on, or Python would fail again as it flushes it at exit."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def tell(line: str) -> None:
    """Print a line on standard error."""
    click.echo(visible(line), err=True)


def write_text(text: str) -> None:
    """Write text to standard output as UTF-8, whatever the locale, and at once.

    A terminal gets control characters in a visible form; a pipe or a file gets the text unchanged.
    """
    write_raw(visible(text) if sys.stdout.isatty() else text)


def write_raw(text: str) -> None:
    """Write text to standard output as UTF-8, with its control characters."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
