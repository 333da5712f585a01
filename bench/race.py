"""Race contenders: each runs in its own process, and they take turns in every round.

The speed of a machine drifts, so contenders are compared by their ratio within a round, and by the
median of this ratio over the rounds.
"""

import statistics
import subprocess
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

ROUNDS = 9


class Contender:
    """A process that prepares a workload, then runs it once for each ``go``."""

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
        """Run the workload once; return its rate, in units per second."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """Close the standard input of the process, which ends it."""
        self._process.communicate()


@dataclass(frozen=True)
class Spread:
    """A list of measurements, shown by median, minimum and maximum."""

    figures: list[float]

    def show(self, form: str) -> str:
        """Return the median, with the minimum and maximum in parentheses."""
        low, high = min(self.figures), max(self.figures)
        middle = statistics.median(self.figures)
        return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def race(contenders: dict[str, Contender], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the rates of each contender, one per round, after a warm-up round."""
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
    """Return the speed of one contender relative to the other, round by round."""
    return Spread([a / b for a, b in zip(rates[one], rates[other], strict=True)])
