"""What a command says while it works: lines, and bars on a terminal, all on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from charlstm.cli import _interrupt
from charlstm.cli._stdio import tell

DELAY = 0.5  # seconds that are worth no bar


class Console:
    """stderr; close it, so that no bar is left standing."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task = ""
        self._said = time.monotonic()

    def say(self, line: str) -> None:
        """Print one line; a bar gives way to it."""
        self.close()
        tell(line)
        self._said = time.monotonic()

    def silence(self) -> float:
        """Return for how many seconds nothing was said."""
        return time.monotonic() - self._said

    def close(self) -> None:
        """Take away a bar that is on the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def advance(self, task: str, total: int, more: int, unit: str = " characters") -> None:
        """Move the bar of a task; Ctrl+C ends what tells of it.

        Raises KeyboardInterrupt.
        """
        _interrupt.stop_if_pressed()
        bar = self.bar(task, total, unit, delay=DELAY)
        if bar is not None:
            bar.update(min(more, total - bar.n))  # the last window can be short

    def advancing(self, task: str, unit: str = " characters") -> Callable[[int, int], None]:
        """Return ``advance`` for one task, to be told the total and how many more are done."""
        return lambda total, more: self.advance(task, total, more, unit)

    def bar(self, task: str, total: int, unit: str, *, first: int = 0, delay: float = 0) -> Any:
        """Return the bar of a task, on a terminal, made when it is first asked for; or None.

        What is done ``first`` is no part of its rate.
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
