"""Ctrl+C, SIGTERM and what schedulers send before the end, never lost.

Python raises KeyboardInterrupt wherever the program is. Inside TensorFlow that can come out as a
TypeError, and inside a finalizer it is dropped: so it is also written down, and asked for. And
Python runs no handler before a call into TensorFlow returns, which can take seconds: so a thread
answers at once, and ends the program at a second Ctrl+C or SIGTERM.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")

# HUP is of a terminal that is closed; USR1, USR2 and XCPU are what schedulers warn with.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
# A closed terminal sends HUP twice, by the kernel and by the shell; schedulers, too, repeat theirs.
IMPATIENT = {signal.SIGINT, signal.SIGTERM}
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]

_received = 0
_deferred = False


def listen() -> None:
    """Note these signals from now on, unless one is ignored (as a shell does behind it)."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    threading.Thread(target=_answer, args=(reading,), daemon=True).start()


def defer() -> None:
    """Raise nothing from now on: what runs asks ``pressed`` and comes to an end by itself."""
    global _deferred  # noqa: PLW0603 - a process has one such state
    _deferred = True


def pressed() -> bool:
    """Tell whether a signal came, whatever became of the exception."""
    return bool(_received)


def exit_code() -> int:
    """Return what a shell expects of a program that ended by the signal."""
    return 128 + _received


def stop_if_pressed() -> None:
    """Raise KeyboardInterrupt if a signal got lost."""
    if pressed():
        raise KeyboardInterrupt


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; raise KeyboardInterrupt at the next one if a signal got lost."""
    for item in items:
        stop_if_pressed()
        yield item


def _receive(number: int, _frame: FrameType | None) -> None:
    global _received  # noqa: PLW0603 - a process has one such state
    _received = number
    if not _deferred:
        raise KeyboardInterrupt


def _answer(descriptor: int) -> None:
    """Answer the first signal with a line, and one of a person after it with the end."""
    os.read(descriptor, 1)
    # Not through sys.stderr: the main thread may hold its lock.
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, b"\ncharlstm: stopping; once more ends it at once\n")
    while (number := os.read(descriptor, 1)[0]) not in IMPATIENT:
        pass
    os._exit(128 + number)
