"""Train 50 steps as one of several workers with several replicas, and save what happened.

Usage: ``replicated.py OUTPUT REPLICAS ACCUMULATE OPTIMIZER DROPOUT``; the cluster is in TF_CONFIG.
The chief writes the losses, the norms of the gradients, and the weights to OUTPUT, an npz file.
"""

import os
import sys
from typing import Any

import numpy as np

from charlstm.architecture import ModelConfig
from charlstm.cluster import cluster_of
from charlstm.config import TrainConfig
from charlstm.network.backend import tf
from charlstm.network.device import select_device
from charlstm.text.windows import Windows
from charlstm.training.step import dropout_key, make_trainer

STEPS, V = 50, 7
RATES = {"sgd": 0.5, "adam": 0.002}


def replicas_of_a_cpu(count: int) -> None:
    """Make TensorFlow use so many parts of a CPU in each worker, as it does with GPUs.

    For CPUs, it has no way to ask for more than one.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import (
        CollectiveAllReduceExtended,
    )

    def local_devices(_self: object, _resolver: object, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:CPU:{i}" for i in range(count)), "CPU"

    CollectiveAllReduceExtended._initialize_local_devices = local_devices  # noqa: SLF001


def main() -> None:
    """Train, and save the results."""
    output, replicas, accumulate, optimizer, dropout = sys.argv[1:]
    replicas_of_a_cpu(int(replicas))
    device = select_device("cpu", int(replicas), cluster_of(os.environ))
    config = TrainConfig(
        batch_size=8,
        sequence_length=30,
        accumulate=int(accumulate),
        optimizer=optimizer,
        clip_norm=0.05 if optimizer == "adam" else 0.0,
        average=0.5,
    )
    model = ModelConfig(units=24, layers=2, dropout=float(dropout))
    trainer = make_trainer(model, config, V, device)
    ids = np.resize(np.random.default_rng(5).integers(0, V, 11), 20_000).astype(np.uint8)
    calls = [range(step, step + 1) for step in range(STEPS)]
    losses, norms = [], []
    for call, element in zip(calls, trainer.dataset(Windows(ids, 8, 30), calls), strict=True):
        before = list(trainer.model.arrays())
        key = tf.constant(dropout_key(1, 1, call.start + 1), tf.int64)
        losses.append(trainer.advance(element, tf.fill([1], RATES[optimizer]), key).numpy()[0])
        # With SGD, the change of a weight is the rate times its gradient.
        changes = [a - b for a, b in zip(trainer.model.arrays(), before, strict=True)]
        norms.append(np.sqrt(sum(np.sum(change.astype(np.float64) ** 2) for change in changes)))
    states = trainer.states()
    if device.cluster.is_chief:
        weights = {f"weights/{i}": array for i, array in enumerate(trainer.model.arrays())}
        arrays: dict[str, Any] = {"losses": losses, "norms": norms, **weights, **states}
        np.savez(output, **arrays)


if __name__ == "__main__":
    main()
