"""The remaining time of a training, in words, estimated from its reports alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlstm.training.reports import StepReport

# Pace is measured between these steps; the first ones are slower.
WARM_UP, MEASURED = 10, 50
SHORTEST = 60  # seconds; a shorter time is not reported


class Eta:
    """Estimates the remaining time, once; ``total`` counts the steps of all epochs.

    The compiled function runs several steps per call, and reports them together when it returns.
    So the pace is measured from the first report of one call to the first report of a later one:
    the time between two reports of the same call means nothing.
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
        """Return the line to print after a report, or an empty string."""
        self._seen += 1
        if self._told or (report.step - 1) % self._steps_per_call or self._seen <= WARM_UP:
            return ""
        if self._start is None:
            self._start = self._seen, self._clock()
        if self._seen <= MEASURED or self._seen == self._start[0]:
            return ""
        self._told = True
        pace = (self._clock() - self._start[1]) / (self._seen - self._start[0])
        # The other steps of this call are done, too, so this overestimates by less than one call.
        left = self._total - (report.epoch - 1) * self._steps_of_epoch - report.step
        return f"about {duration(pace * left)} left" if pace * left >= SHORTEST else ""


def duration(seconds: float) -> str:
    """Format a duration in its two largest units, for example ``3 h 20 min``."""
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
