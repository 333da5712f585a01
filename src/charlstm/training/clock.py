"""What tells time, and what computes: kept apart from all that a repeated run must repeat."""

import platform
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from charlstm.hardware import processor, usable_cores
from charlstm.network.backend import keras, tf
from charlstm.version import __version__


class Clock:
    """The time that a training has taken, ``seconds`` of it before now."""

    def __init__(self, seconds: float) -> None:
        self._start = monotonic() - seconds

    def seconds(self) -> float:
        """Return how long the training has taken."""
        return round(monotonic() - self._start, 3)

    def record(self, characters: int, since: float) -> dict[str, Any]:
        """Return what the history says of time, of so many characters trained since a moment."""
        now = self.seconds()
        return {
            "seconds": now,
            "characters_per_second": round(characters / max(now - since, 1e-3), 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def versions() -> dict[str, str]:
    """Return what computes: with the same of all of these, the same numbers come out."""
    return {
        "charlstm": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": str(usable_cores()),
    }
