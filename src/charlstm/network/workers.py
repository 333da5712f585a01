"""The workers of a cluster, connected by TensorFlow, and what they tell each other."""

import contextlib
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.cluster import Cluster
from charlstm.errors import CharlstmError
from charlstm.network.backend import tf

Array = NDArray[Any]
TASK = re.compile(r"/task:(\d+)")  # in TensorFlow's messages


class Workers:
    """The workers of a strategy; all of them must call these methods in the same order."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        resolver = strategy.cluster_resolver  # None if there is no cluster
        self.count: int = resolver.cluster_spec().num_tasks("worker") if resolver else 1
        self.index: int = resolver.task_id if resolver else 0

    def sum(self, array: Array) -> Any:
        """Return the sum of the workers' arrays as a tensor that may still be computed."""
        local = self._strategy.num_replicas_in_sync // self.count
        nothing = np.zeros_like(array)
        values = self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(
                nothing if context.replica_id_in_sync_group % local else array
            )
        )
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    def total(self, array: Array) -> Array:
        """Return the sum of the workers' arrays, which have the same shape and type."""
        # Without this exception, TensorFlow 2.21 crashes.
        return array if self.count == 1 or not array.size else np.asarray(self.sum(array))

    def of_chief(self, array: Array) -> Array:
        """Return the chief's array; the others' have its shape and type."""
        return self.total(np.zeros_like(array) if self.index else array)

    def texts(self, text: str) -> list[str]:
        """Return the texts of all workers, in their order."""
        mine = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        lengths = np.zeros(self.count, np.int32)
        lengths[self.index] = len(mine)
        lengths = self.total(lengths)
        rows = np.zeros((self.count, lengths.max()), np.int32)
        rows[self.index, : len(mine)] = mine
        every = zip(self.total(rows), lengths, strict=True)
        return [row[:length].astype(np.uint8).tobytes().decode() for row, length in every]

    def text_of_chief(self, text: str) -> str:
        """Return the chief's text."""
        return self.texts("" if self.index else text)[0]


ALONE = Workers(tf.distribute.get_strategy())


def join(cluster: Cluster, gpus: int) -> Any:
    """Return the strategy of a cluster whose workers each have so many GPUs, or a CPU."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": cluster.addresses}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    handler = signal.getsignal(signal.SIGTERM)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # TensorFlow has replaced it with its own
    return strategy


@contextlib.contextmanager
def lost_workers(cluster: Cluster) -> Iterator[None]:
    """Turn the errors of a cluster that has lost a worker into one line.

    Raises CharlstmError.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        if cluster.size == 1:
            raise
        # Their variables have a pool of threads, which prints an error if Python frees it at exit.
        traceback.clear_frames(error.__traceback__)
        named = (int(number) for number in TASK.findall(error.message))
        lost = next((index for index in named if index != cluster.index), None)
        who = "another worker" if lost is None else cluster.named(lost)
        raise CharlstmError(
            f"{who} has ended or cannot be reached", "start all workers again with {resume}"
        ) from None
