"""Ctrl+C that is never lost.

Python raises KeyboardInterrupt wherever the program is. Inside TensorFlow that can come out as a
TypeError, and inside a finalizer it is dropped: so it is also written down, and asked for.
"""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")

_pressed = False


def listen() -> None:
    """Note Ctrl+C from now on, unless it is ignored (as a shell does for what runs behind it)."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _press)


def pressed() -> bool:
    """Tell whether Ctrl+C was pressed, whatever became of the exception."""
    return _pressed


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; raise KeyboardInterrupt at the next one if Ctrl+C got lost."""
    for item in items:
        if _pressed:
            raise KeyboardInterrupt
        yield item


def _press(_signal: int, _frame: FrameType | None) -> None:
    global _pressed  # noqa: PLW0603 - a process has one such signal
    _pressed = True
    raise KeyboardInterrupt
