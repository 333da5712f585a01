"""The windows of a text as a dataset of batches, for each replica of a strategy."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from charlstm.network.backend import tf
from charlstm.network.workers import Workers
from charlstm.text.source import Ids
from charlstm.text.windows import Windows


@dataclass(frozen=True)
class Calls:
    """The steps from ``start`` to ``stop`` (exclusive), in calls of at most ``size`` steps.

    The boundaries between calls are the same for every ``start``. They are not listed: an epoch of
    a long text has millions.
    """

    start: int
    stop: int
    size: int

    def __len__(self) -> int:
        if self.start >= self.stop:
            return 0
        return (self.stop - 1) // self.size - self.start // self.size + 1

    def __iter__(self) -> Iterator[range]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> range:
        first = (self.start // self.size + range(len(self))[index]) * self.size
        return range(max(first, self.start), min(first + self.size, self.stop))

    def without_last(self) -> "Calls":
        """Return all calls but the last, which can be shorter; or the only one."""
        return replace(self, stop=self[-1].start) if len(self) > 1 else self


def batches(windows: Windows, calls: Iterable[range], strategy: Any, ahead: int) -> Any:
    """Return a dataset with one element per call and replica, made ``ahead`` calls in advance.

    ``calls`` are the steps of each call. An element has the replica's rows of the K windows of a
    call: (K, B / replicas, T + 1), for records (K, B / replicas, T + 1, 2). The strategy deals the
    elements out in turn to the replicas of this worker, so each row reaches the replica of its
    lane.
    """
    replicas, workers = strategy.num_replicas_in_sync, Workers(strategy)
    rows, every = windows.batch_size // replicas, windows.batch_size // workers.count
    first = workers.index * every

    def pieces() -> Iterator[Ids]:
        for call in calls:
            stacked = np.stack([windows.window(step) for step in call])
            for start in range(first, first + every, rows):
                yield stacked[:, start : start + rows]

    signature = tf.TensorSpec((None, rows, *windows.shape[1:]), windows.ids.dtype)
    options = tf.data.Options()
    # There is nothing to tune, and at its end an iterator can wait for the tuning thread, which
    # sleeps for 10 ms, 20 ms, 40 ms ...: epochs of 72 s took 82 s (TensorFlow 2.21).
    options.autotune.enabled = False
    return strategy.distribute_datasets_from_function(
        lambda _: (
            tf.data.Dataset.from_generator(pieces, output_signature=signature)
            .prefetch(ahead * replicas // workers.count)
            .with_options(options)
        )
    )


def planes(window: Any) -> tuple[Any, Any]:
    """Return the ids of a window (b, T + 1), and where the state is reset: (b, T), or None."""
    if len(window.shape) < 3:  # noqa: PLR2004 - it has no second plane
        return window, None
    return window[..., 0], window[:, :-1, 1]
