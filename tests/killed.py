"""charlstm, killed at one point while it saves an epoch: ``killed.py POINT train ...``."""

import os
import signal
import sys
from typing import Any

from charlstm.cli import main

POINTS = [
    "before the epoch file",
    "epoch file written",
    "epoch file renamed",
    "name of the epoch file synced",
    "before the line of history",
    "line of history written",
    "history synced",
    "before the resume file",
    "resume file written",
    "resume file renamed",
    "name of the resume file synced",
]

_WRITING = os.O_WRONLY | os.O_RDWR
_done = 0
_point = ""


def _note(*, begins: bool = False) -> None:
    """Count file operations, starting with that of an epoch file; die at the chosen point."""
    global _done  # noqa: PLW0603 - a process dies once
    if begins or _done:
        if POINTS[_done] == _point:
            os.kill(os.getpid(), signal.SIGKILL)
        _done += 1


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """Count a file that is about to be opened for writing."""
    if event == "open" and isinstance(arguments[0], str) and arguments[2] & _WRITING:
        _note(begins=os.path.basename(arguments[0]).startswith(".epoch-"))  # noqa: PTH119


def _noted(function: Any) -> Any:
    """Wrap a function so that it is counted once it has returned."""

    def wrapped(*arguments: Any) -> None:
        function(*arguments)
        _note()

    return wrapped


if __name__ == "__main__":
    os.fsync, os.replace = _noted(os.fsync), _noted(os.replace)
    sys.addaudithook(_hear)
    _point = sys.argv.pop(1)
    main()
