"""The states of all units after each character of a text. Knows ids only, no characters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import ModelConfig, Weights
from charlstm.network.backend import tf
from charlstm.network.cells import LOOP_CELLS
from charlstm.network.loops import forward
from charlstm.network.recurrence import ROWS_PER_GROUP, row_groups

Array = NDArray[np.float32]


class Activations:
    """Reads B texts side by side, on the CPU.

    A column of its results is one state of one unit: h of the first layer's U units, in an LSTM
    then c of these, then those of the next layer. With ``bfloat16``, matrix products multiply
    bfloat16 numbers.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights[Array],
        batch_size: int,
        *,
        bfloat16: bool = False,
    ) -> None:
        self._products = tf.bfloat16 if bfloat16 else tf.float32
        self._cell = LOOP_CELLS[config.cell][config.nonlinearity]
        self._config = config
        self._batch_size = batch_size
        with tf.device("/CPU:0"):
            self._layers = [
                [tf.constant(part) for part in (layer.kernel, layer.recurrent, layer.bias)]
                for layer in weights.layers
            ]
            self._dense = tf.constant(weights.dense_kernel), tf.constant(weights.dense_bias)
        self._read = tf.function(self._states_and_logits, autograph=False)
        self.reset()

    def reset(self) -> None:
        """Reset all states to zeros."""
        shape = (self._batch_size, self._config.units)
        count = len(self._config.kind.states)
        self._states = [[tf.zeros(shape)] * count for _ in self._layers]

    def read(self, ids: NDArray[np.int32]) -> tuple[Any, Any]:
        """Read ids (B, T), and return the states after each, (B, T, S), and logits (B, T, V)."""
        with tf.device("/CPU:0"):
            columns, logits, self._states = self._read(tf.constant(ids), self._states)
        return columns, logits

    def _states_and_logits(self, ids: Any, states: Any) -> Any:
        sequence, columns, last = ids[..., None], [], []
        for layer, before in zip(self._layers, states, strict=True):
            parts = [
                self._of_group(layer, sequence, [state[start:stop] for state in before], start)
                for start, stop in row_groups(self._batch_size, ROWS_PER_GROUP)
            ]
            outputs, after, saved = tf.nest.map_structure(_joined, *parts)
            # The first array that an LSTM saves is c.
            columns += [outputs, saved[0]] if len(before) > 1 else [outputs]
            last.append(after)
            sequence = outputs
        kernel, bias = self._dense
        return tf.concat(columns, -1), tf.matmul(sequence, kernel) + bias, last

    def _of_group(self, layer: Any, sequence: Any, states: Any, start: int) -> Any:
        kernel, recurrent, bias = layer
        if not sequence.dtype.is_integer:
            sequence, kernel = (tf.cast(part, self._products) for part in (sequence, kernel))
        weights = kernel, tf.cast(recurrent, self._products), tf.transpose(recurrent), bias
        return forward(self._cell, sequence, states, weights, (tf.constant(start), None))


def _joined(*parts: Any) -> Any:
    return tf.concat(parts, 0)


def likelihoods(logits: Any, ids: NDArray[np.int32]) -> Array:
    """Return the probabilities (B, T, K) of some ids (K,) as the next one."""
    found: Array = tf.gather(tf.nn.softmax(logits), ids, axis=-1).numpy()
    return found


@tf.function(autograph=False)  # type: ignore[untyped-decorator] # TensorFlow is untyped
def sums(states: Any, known: Any) -> Any:
    """Return the sums of x, x x, y, y y and x y over all characters, for states x and values y."""
    # In TensorFlow, since the threads of numpy's products would compete with those of the network.
    x, y = (tf.reshape(part, (-1, part.shape[-1])) for part in (states, known))
    totals = [tf.reduce_sum(part, 0) for part in (x, x * x, y, y * y)]
    return [*totals, tf.matmul(x, y, transpose_a=True)]
