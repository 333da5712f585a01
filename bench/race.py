"""Contenders side by side: each in a process of its own, in turn, round by round.

Machines drift; so what counts are ratios within a round, and their median over the rounds.
"""

import statistics
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 9


class Contender:
    """A process that prepares itself, then does one piece of work whenever it is told to."""

    def __init__(self, name: str, **settings: object) -> None:
        arguments = [f"{key}={value}" for key, value in settings.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.contenders", name, *arguments],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(self) -> float:
        """Return the rate of one piece of work, in units a second."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Let the process end: it does when nothing more can be asked."""
        self._process.communicate()


@dataclass(frozen=True)
class Spread:
    """Some figures by their median, smallest and largest."""

    figures: list[float]

    def show(self, form: str) -> str:
        """Return the median, with the ends in brackets."""
        low, high = min(self.figures), max(self.figures)
        middle = statistics.median(self.figures)
        return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def race(contenders: dict[str, Contender], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the rates of each, one a round, after a round that does not count."""
    with ExitStack() as stack:
        for contender in contenders.values():
            stack.enter_context(closing(contender))
        for contender in contenders.values():
            contender.go()
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                rates[name].append(contender.go())
    return rates


def ratio(rates: dict[str, list[float]], one: str, other: str) -> Spread:
    """Return how many times as fast one is as the other, round by round."""
    return Spread([a / b for a, b in zip(rates[one], rates[other], strict=True)])
