"""Messages and progress of a command on stderr: lines and, on a terminal, progress bars."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from charlstm.cli import _interrupt
from charlstm.cli._stdio import tell

DELAY = 0.5  # seconds; a shorter task shows no bar


class Console:
    """Lines and progress bars on stderr, unless ``silent``; ``close`` removes the last bar."""

    def __init__(self, *, silent: bool = False) -> None:
        self.terminal = sys.stderr.isatty() and not silent
        self._silent = silent
        self._bar: Any = None
        self._task = ""
        self._said = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line, in place of the bar if there is one."""
        self.close()
        if not self._silent:
            tell(line)
        self._said = time.monotonic()

    def seconds_since_line(self) -> float:
        """Return the seconds since the last line."""
        return time.monotonic() - self._said

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def advance(self, task: str, total: int, more: int, unit: str = " characters") -> None:
        """Advance the bar of a task by ``more`` of its ``total`` units.

        Raises KeyboardInterrupt if a signal has arrived, to interrupt the task.
        """
        _interrupt.stop_if_pressed()
        bar = self.bar(task, total, unit, delay=DELAY)
        if bar is not None:
            bar.update(min(more, total - bar.n))  # the last window can be short

    def advancing(self, task: str, unit: str = " characters") -> Callable[[int, int], None]:
        """Return ``advance`` for one task, as a function of ``total`` and ``more``."""
        return lambda total, more: self.advance(task, total, more, unit)

    def bar(self, task: str, total: int, unit: str, *, first: int = 0, delay: float = 0) -> Any:
        """Return the bar of a task, created at its first use; None if stderr is no terminal.

        The bar starts at ``first``, which does not count towards its rate.
        """
        if not self.terminal:
            return None
        if self._bar is not None and self._task != task:
            self.close()
        if self._bar is None:
            from tqdm import tqdm

            self._task = task
            self._bar = tqdm(
                total=total,
                initial=first,
                desc=task,
                unit=unit,
                unit_scale=True,
                leave=False,
                dynamic_ncols=True,
                delay=delay,
                file=sys.stderr,
            )
        return self._bar
