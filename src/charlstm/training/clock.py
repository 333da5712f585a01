"""Elapsed time and software versions, kept apart from data that a repeated run must reproduce."""

import platform
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from charlstm.hardware import processor, usable_cores
from charlstm.network.backend import keras, tf
from charlstm.version import __version__


class Clock:
    """The elapsed time of a training, which has taken ``seconds`` so far."""

    def __init__(self, seconds: float) -> None:
        self._start = monotonic() - seconds

    def seconds(self) -> float:
        """Return the elapsed time in seconds."""
        return round(monotonic() - self._start, 3)

    def record(self, characters: int, since: float) -> dict[str, Any]:
        """Return the time fields of a history line; ``since`` is the elapsed time to count from.

        ``characters`` is the number of characters trained on since then.
        """
        now = self.seconds()
        return {
            "seconds": now,
            "characters_per_second": round(characters / max(now - since, 1e-3), 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def versions() -> dict[str, str]:
    """Return the versions of software and hardware.

    If all are equal, a repeated run on a CPU is bit-identical.
    """
    return {
        "charlstm": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": str(usable_cores()),
    }
