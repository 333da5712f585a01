"""How long a training will take, in words. Knows reports, not the training behind them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlstm.training.reports import StepReport

# The first steps are slower; those after them are measured until so many are done.
WARM_UP, MEASURED = 10, 50
SHORTEST = 60  # seconds that are worth a line


class Eta:
    """The time to the end, told once; ``total`` steps are those of all epochs.

    Reports come together for all steps of a call of the compiled function, so time is taken where
    a call begins: what came between two such places was done between them.
    """

    def __init__(
        self,
        total: int,
        steps_of_epoch: int,
        steps_per_call: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._steps_of_epoch = steps_of_epoch
        self._steps_per_call = steps_per_call
        self._clock = clock
        self._seen = 0
        self._start: tuple[int, float] | None = None
        self._told = False

    def after(self, report: StepReport) -> str:
        """Return a line where it is time for it, or else nothing."""
        self._seen += 1
        if self._told or (report.step - 1) % self._steps_per_call or self._seen <= WARM_UP:
            return ""
        if self._start is None:
            self._start = self._seen, self._clock()
        if self._seen <= MEASURED or self._seen == self._start[0]:
            return ""
        self._told = True
        pace = (self._clock() - self._start[1]) / (self._seen - self._start[0])
        # This step is reported when it is done, as is the rest of its call.
        left = self._total - (report.epoch - 1) * self._steps_of_epoch - report.step
        return f"about {duration(pace * left)} to the end" if pace * left >= SHORTEST else ""


def duration(seconds: float) -> str:
    """Say how long it is, in the two largest units, for example ``3 h 20 min``."""
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
