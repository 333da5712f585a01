"""A file that a command is told to write: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from charlstm.errors import CharlstmError


def check_file(path: str) -> None:
    """Refuse, before the work is done, what cannot be written or is no file.

    Raises CharlstmError.
    """
    place = Path(path).resolve()
    if place.exists() and not place.is_file():
        raise CharlstmError(
            f"{path}: not a regular file; to write to standard output, leave it out"
        )
    if not place.parent.is_dir():
        raise CharlstmError(f"{path}: there is no folder {place.parent}; make it first")


def write_to(path: str, content: str) -> None:
    """Write a text as UTF-8; where the name is a link, to what it stands for.

    Raises CharlstmError.
    """
    from charlstm.checkpoint import write_file

    try:
        write_file(Path(path).resolve(), content.encode())
    except OSError as error:
        raise CharlstmError(f"{path}: cannot be written: {error.strerror or error}") from None
