"""Whether to save or to stop after a step, as agreed by all workers. Knows no file and no step."""

from collections.abc import Callable
from typing import Any

import numpy as np

from charlstm.network.workers import Workers


class Wishes:
    """Whether to save and whether to stop: what this process wishes, or any worker of a cluster.

    The workers of a cluster must act after the same step, so each tells its wishes with every call
    of the compiled steps, and acts when it hears those of all, a few calls later.
    """

    def __init__(
        self, workers: Workers, due: Callable[[], bool], stopped: Callable[[], bool]
    ) -> None:
        self._workers = workers
        self._due = due
        self._stopped = stopped
        self._heard = [False, False]

    @property
    def save(self) -> bool:
        """Whether to save; also true if the training should stop."""
        return self.stop or (self._due() if self._alone else self._heard[0])

    @property
    def stop(self) -> bool:
        """Whether to stop, once all is saved."""
        return self._stopped() if self._alone else self._heard[1]

    @property
    def told_to_stop(self) -> bool:
        """Whether a worker told that it wishes to stop, perhaps with the last call of an epoch."""
        return self._heard[1]

    def tell(self) -> Any:
        """Tell the other workers what this one wishes; return what all tell, for ``hear``."""
        own = np.array([self._due(), self._stopped()], np.float32)
        return own if self._alone else self._workers.sum(own)

    def hear(self, told: Any) -> None:
        """Take note of what all workers told."""
        due, stopped = np.asarray(told) > 0
        self._heard = [bool(due), bool(stopped) or self._heard[1]]

    @property
    def _alone(self) -> bool:
        return self._workers.count == 1
