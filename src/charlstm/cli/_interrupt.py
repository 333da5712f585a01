"""Handle the signals that stop the program: Ctrl+C, SIGTERM, SIGHUP and schedulers' warnings.

A KeyboardInterrupt can be lost: inside TensorFlow it can turn into a TypeError, and inside a
finalizer Python prints and drops it. So the handler also records the signal, loops check
``pressed``, and what finalizers raise after a signal is not printed.

Python runs no handler until a call into TensorFlow returns, which can take seconds. So a thread
prints a message at once, and ends the program at a second Ctrl+C or SIGTERM.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeVar

Item = TypeVar("Item")

# HUP: the terminal was closed. USR1, USR2, XCPU: schedulers warn that time is up.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
# Signals that end the program at once when repeated. The others can arrive twice unprompted: HUP
# from the kernel and from the shell, and the warnings of schedulers.
QUIT_IF_REPEATED = {signal.SIGINT, signal.SIGTERM}
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]

_received = 0
_deferred = False


def listen() -> None:
    """Handle the signals from now on, except those ignored already (as in a background job)."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)
    sys.unraisablehook = _print_unless_pressed
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    threading.Thread(target=_answer, args=(reading,), daemon=True).start()


def defer() -> None:
    """Raise no KeyboardInterrupt from now on: the caller checks ``pressed`` and stops by itself."""
    global _deferred  # noqa: PLW0603 - a process has one such state
    _deferred = True


def pressed() -> bool:
    """Tell whether a signal has arrived, even if its exception was lost."""
    return bool(_received)


def exit_code() -> int:
    """Return the exit code that shells expect after the signal."""
    return 128 + _received


def stop_if_pressed() -> None:
    """Raise KeyboardInterrupt if a signal has arrived, in case its exception was lost."""
    if pressed():
        raise KeyboardInterrupt


def stop() -> NoReturn:
    """Raise KeyboardInterrupt, as after SIGTERM if this process has received no signal itself."""
    global _received  # noqa: PLW0603 - a process has one such state
    _received = _received or signal.SIGTERM
    raise KeyboardInterrupt


def interruptible(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; raise KeyboardInterrupt before the next one if a signal has arrived."""
    for item in items:
        stop_if_pressed()
        yield item


def _receive(number: int, _frame: FrameType | None) -> None:
    global _received  # noqa: PLW0603 - a process has one such state
    _received = number
    if not _deferred:
        raise KeyboardInterrupt


def _print_unless_pressed(unraisable: Any) -> None:
    """Print an exception that a finalizer raised, as Python does, unless a signal has arrived.

    The exception is then most likely the lost KeyboardInterrupt, or a SystemError in its place.
    """
    if not pressed():
        sys.__unraisablehook__(unraisable)


def _answer(descriptor: int) -> None:
    """Print a line at the first signal, and end the program at the next Ctrl+C or SIGTERM."""
    os.read(descriptor, 1)
    # Not through sys.stderr: the main thread may hold its lock.
    with contextlib.suppress(OSError):  # stderr may be closed
        os.write(2, b"\ncharlstm: stopping; press Ctrl+C again to quit at once\n")
    while (number := os.read(descriptor, 1)[0]) not in QUIT_IF_REPEATED:
        pass
    os._exit(128 + number)
