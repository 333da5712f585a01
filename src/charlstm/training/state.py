"""What the next step depends on besides the weights: states of lanes, optimizer and average.

Knows no gradients and no files.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.network.backend import keras, tf
from charlstm.network.model import CharacterModel
from charlstm.network.workers import Workers
from charlstm.training.average import Average

OPTIMIZER = "optimizer/"  # prefix of the names of the optimizer's arrays
LOSS_SCALING = 4  # arrays of loss scaling: iterations, learning rate, finite steps, scale


class Lanes:
    """The recurrent state of all lanes of a replica, for a model that computes them in groups.

    ``variables`` have the shape (groups, B, U), B being the batch size of the model; with a single
    group, they are the variables of the model, (B, U). Create it in the scope of the strategy.
    """

    def __init__(self, model: CharacterModel, groups: int) -> None:
        self._of_model = self.variables = model.state_variables()
        if groups > 1:
            self.variables = [
                keras.Variable(
                    np.zeros((groups, *variable.shape), np.float32),
                    trainable=False,
                    aggregation="none",
                )
                for variable in self._of_model
            ]

    def reset(self) -> None:
        """Reset the state of all lanes to zeros."""
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape, np.float32))

    def load(self, group: Any) -> None:
        """Give the model the state of a group, for several groups."""
        for own, every in zip(self._of_model, self.variables, strict=True):
            own.assign(every.value[group])

    def store(self, group: Any) -> None:
        """Keep the state of the model as that of a group, for several groups."""
        for own, every in zip(self._of_model, self.variables, strict=True):
            rows = tf.tensor_scatter_nd_update(every.value, [[group]], own.value[None])
            every.assign(rows)


class State:
    """The arrays of a training's state, by name; those of lanes have the lanes' order.

    Create it in the scope of the strategy.
    """

    def __init__(self, lanes: Lanes, optimizer: Any, average: Average, workers: Workers) -> None:
        self._lanes = {f"lstm/{i}": variable for i, variable in enumerate(lanes.variables)}
        self._others = {f"{OPTIMIZER}{i}": v for i, v in enumerate(optimizer.variables)}
        self._others |= {f"average/{i}": v for i, v in enumerate(average.variables)}
        self._optimizer = optimizer
        self._workers = workers
        self._strategy = tf.distribute.get_strategy()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays; those of lanes have the shape (B, U), with the batch size of all."""
        lanes = {name: self._joined(variable) for name, variable in self._lanes.items()}
        return lanes | {name: variable.numpy() for name, variable in self._others.items()}

    def size(self) -> int:
        """Return the size of all arrays in bytes."""
        lanes = sum(map(_bytes, self._lanes.values()))
        others = sum(map(_bytes, self._others.values()))
        return int(self._replicas * lanes + others)

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Set all arrays; their precision and the groups of lanes may have changed.

        Of several workers, only the chief needs to know them. Raises CharlstmError if they belong
        to another model or optimizer.
        """
        own = self.arrays()
        if self._workers.index:
            arrays = own
        arrays = with_loss_scaling(arrays, self._optimizer)
        if _kinds(arrays) != _kinds(own):
            raise CharlstmError(
                "the saved state belongs to another model or optimizer",
                "start again with {overwrite}",
            )
        for name, variable in self._lanes.items():
            replicas = self._of_replicas(variable)
            parts = np.split(self._workers.of_chief(arrays[name]), self._replicas)
            first = self._workers.index * len(replicas)
            for replica, part in zip(replicas, parts[first:], strict=False):
                replica.assign(part.reshape(replica.shape))
        for name, variable in self._others.items():
            variable.assign(self._workers.of_chief(arrays[name]))

    @property
    def _replicas(self) -> int:
        return int(self._strategy.num_replicas_in_sync)

    def _of_replicas(self, variable: Any) -> Any:
        """Return the variable of each replica of this worker, in the order of the lanes."""
        return self._strategy.experimental_local_results(variable.value)

    def _joined(self, variable: Any) -> NDArray[np.float32]:
        replicas = self._of_replicas(variable)
        parts = [np.zeros(variable.shape, np.float32)] * self._replicas
        first = self._workers.index * len(replicas)
        parts[first : first + len(replicas)] = [replica.numpy() for replica in replicas]
        joined = np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
        return self._workers.total(joined)


def _bytes(variable: Any) -> int:
    return int(np.dtype(variable.dtype).itemsize * math.prod(variable.shape))


def with_loss_scaling(
    arrays: Mapping[str, NDArray[Any]], optimizer: Any
) -> dict[str, NDArray[Any]]:
    """Return the saved arrays of a training for its optimizer, whose precision may have changed.

    With float16, the first arrays of the optimizer are those of loss scaling: they are removed, or
    added with their initial values.
    """
    names = [name for name in arrays if name.startswith(OPTIMIZER)]
    saved = [arrays[name] for name in sorted(names, key=lambda name: int(name[len(OPTIMIZER) :]))]
    inner = getattr(optimizer, "inner_optimizer", optimizer).variables
    scaling = [np.asarray(variable) for variable in optimizer.variables[: -len(inner)]]
    if scaling and len(saved) == len(inner):
        saved = [saved[0], *scaling[1:], *saved]  # the first one counts the steps
    elif not scaling and len(saved) == len(inner) + LOSS_SCALING:
        saved = saved[LOSS_SCALING:]
    others = {name: array for name, array in arrays.items() if name not in names}
    return others | {f"{OPTIMIZER}{i}": array for i, array in enumerate(saved)}


def _kinds(arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the types and shapes of arrays, by name."""
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}
