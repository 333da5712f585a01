"""The weights that a training starts from, by the name of the initializer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import LayerWeights, ModelConfig, Weights, shapes
from charlstm.network.backend import keras

Array = NDArray[np.float32]
Shape = tuple[int, ...]


def _glorot(shape: Shape, seed: int) -> Array:
    """Glorot and Bengio 2010: uniform within sqrt(6 / (rows + columns))."""
    return np.asarray(keras.initializers.GlorotUniform(seed=seed)(shape))


def _orthogonal(shape: Shape, seed: int, gain: float = 1.0) -> Array:
    """Saxe et al. 2013."""
    return np.asarray(keras.initializers.Orthogonal(gain=gain, seed=seed)(shape))


def _uniform(shape: Shape, seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-0.08, 0.08, shape).astype(np.float32)


def _normal(shape: Shape, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 0.01, shape).astype(np.float32)


def _zeros(shape: Shape, _seed: int) -> Array:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True)
class _Initializer:
    """A function for each kind of weight; ``by_gate`` calls those of kernels once for each gate."""

    kernel: Callable[[Shape, int], Array]
    recurrent: Callable[[Shape, int], Array]
    bias: Callable[[Shape, int], Array] = _zeros
    by_gate: bool = False


INITIALIZERS = {
    "keras": _Initializer(_glorot, _orthogonal),
    # Keras 1.0.3, of May 2016.
    "keras-2016": _Initializer(_glorot, partial(_orthogonal, gain=1.1), by_gate=True),
    "uniform": _Initializer(_uniform, _uniform, _uniform),  # char-rnn
    "normal": _Initializer(_normal, _normal),  # min-char-rnn
}


def initial_weights(
    model: ModelConfig, vocab_size: int, initializer: str, seed: int
) -> Weights[Array]:
    """Return the initial weights of a model, which depend on these arguments alone.

    ``initializer`` is one of INITIALIZERS. With any of them, the bias of an LSTM's forget gate is
    larger by 1 (Jozefowicz et al. 2015).
    """
    made, all_shapes = INITIALIZERS[initializer], shapes(model, vocab_size)
    layers = []
    for number, layer in enumerate(all_shapes.layers):
        kernel, recurrent, bias = _seeds(seed, number)
        gates = model.kind.gates if made.by_gate else 1
        biases = made.bias(layer.bias, bias)
        if model.cell == "lstm":
            biases[model.units : 2 * model.units] += 1
        layers.append(
            LayerWeights(
                _in_parts(made.kernel, layer.kernel, kernel, gates),
                _in_parts(made.recurrent, layer.recurrent, recurrent, gates),
                biases,
            )
        )
    kernel, _, bias = _seeds(seed, model.layers)
    dense = made.kernel(all_shapes.dense_kernel, kernel), made.bias(all_shapes.dense_bias, bias)
    return Weights(tuple(layers), *dense)


def _in_parts(
    function: Callable[[Shape, int], Array], shape: Shape, seed: int, parts: int
) -> Array:
    """Return an array of this shape, made of ``parts`` equal blocks of columns."""
    if parts == 1:
        return function(shape, seed)
    part = (shape[0], shape[1] // parts)
    seeds = np.random.SeedSequence(seed).generate_state(parts) >> 1
    return np.concatenate([function(part, int(of_part)) for of_part in seeds], 1)


def _seeds(seed: int, layer: int) -> list[int]:
    """Return the seeds of a layer's kernel, recurrent kernel and bias."""
    return [int(part) for part in np.random.SeedSequence([seed, layer]).generate_state(3) >> 1]
