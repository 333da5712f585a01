"""The network, defined once, for any batch size. The only module that builds it from layers.

Knows no files and no text.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import LayerWeights, ModelConfig, Weights
from charlstm.network.backend import keras, tf
from charlstm.network.recurrence import GRU, LSTM, SimpleRNN

State = list[NDArray[np.float32]]


class Dropout(keras.layers.Layer):  # type: ignore[misc] # Keras is untyped
    """Zero a fraction of the inputs and scale the rest; the mask depends on the seed alone.

    Keras's own layer keeps a random generator, which no weights file stores, and draws the same
    mask on every replica. ``xla`` compiles the layer, with bit-identical results: random numbers
    are compared as integers.
    """

    def __init__(self, rate: float, *, xla: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self._drop = _compiled_drop if xla else _drop

    def call(self, inputs: Any, seed: Any) -> Any:
        """Return inputs of any shape with dropout; ``seed`` has shape (2,), int64."""
        return self._drop(inputs, seed, self.rate)


def _drop(inputs: Any, seed: Any, rate: float) -> Any:
    # An element of a mask needs only 16 of a random number's 32 bits; using both halves takes a
    # third of the time.
    units = inputs.shape[-1]
    shape = tf.concat([tf.shape(inputs)[:-1], [(units + 1) // 2]], 0)
    numbers = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    low, high = tf.bitwise.bitwise_and(numbers, 0xFFFF), tf.bitwise.right_shift(numbers, 16)
    kept = tf.concat([low, high], -1)[..., :units] >= round(rate * 2**16)
    return tf.where(kept, inputs * (1 / (1 - rate)), 0)


_compiled_drop = tf.function(_drop, autograph=False, jit_compile=True)  # shared by all layers


LAYERS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": SimpleRNN}


class CharacterModel(keras.Model):  # type: ignore[misc] # Keras is untyped
    """One-hot -> L x (stateful cells, dropout) -> dense: ids (B, T) -> logits (B, T, V).

    T may vary, B is fixed: the state of row b belongs to lane b.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        *,
        batch_size: int,
        on_gpu: bool,
        precision: str,
    ) -> None:
        super().__init__(name="character_model")
        self.batch_size = batch_size
        policy = "mixed_float16" if precision == "float16" else "float32"
        self.recurrent = [
            LAYERS[config.cell](
                config.units,
                **_activation(config),
                return_sequences=True,
                stateful=True,
                on_gpu=on_gpu,
                bfloat16=precision == "bfloat16",
                kernel_initializer="zeros",
                recurrent_initializer="zeros",
                dtype=policy,
            )
            for _ in range(config.layers)
        ]
        self.dropouts = [
            Dropout(config.dropout, xla=not on_gpu, dtype=policy) for _ in range(config.layers)
        ]
        self.dense = keras.layers.Dense(vocab_size, kernel_initializer="zeros")

    def call(self, ids: Any, dropout_seed: Any = None, resets: Any = None) -> Any:
        """Return logits (B, T, V), float32, for ids (B, T), and update the state.

        ``dropout_seed``, two int64, switches dropout on; layer l adds l to the second. Where
        ``resets`` (B, T) is 1, the state is reset to zeros before an id is read; on a GPU it is
        not: cuDNN cannot.
        """
        keep = None if resets is None else 1 - tf.cast(resets, tf.float32)
        sequence = tf.cast(ids, tf.int32)[..., None]  # the first layer reads ids as one-hot vectors
        for layer, (cell, dropout) in enumerate(zip(self.recurrent, self.dropouts, strict=True)):
            sequence = cell(sequence, keep=keep)
            if dropout_seed is not None and dropout.rate > 0:
                sequence = dropout(sequence, dropout_seed + tf.constant([0, layer], tf.int64))
        return self.dense(sequence)

    def reset_state(self) -> None:
        """Reset the state to zeros."""
        for layer in self.recurrent:
            layer.reset_state()

    def state(self) -> State:
        """Return the state: h of each layer, each followed by c if it has one, all (B, U)."""
        return [variable.numpy() for variable in self.state_variables()]

    def set_state(self, state: State) -> None:
        """Restore a state that ``state`` returned."""
        for variable, value in zip(self.state_variables(), state, strict=True):
            variable.assign(value)

    def state_variables(self) -> list[Any]:
        """Return the variables that hold what ``state`` returns."""
        return [variable for layer in self.recurrent for variable in layer.states]

    def arrays(self) -> Weights[NDArray[np.float32]]:
        """Return the weights."""
        return Weights.of(variable.numpy() for variable in self.trainable_variables)

    def set_arrays(self, arrays: Iterable[NDArray[np.float32]]) -> None:
        """Set weights that ``arrays`` returned, for a model of any batch size."""
        for variable, value in zip(self.trainable_variables, arrays, strict=True):
            variable.assign(value)


def _activation(config: ModelConfig) -> dict[str, str]:
    """Return what decides the activation of a layer's gates, or of an RNN's units."""
    return {config.kind.activation: config.nonlinearity}


def _for_keras(arrays: Weights[NDArray[np.float32]], config: ModelConfig) -> Iterable[Any]:
    """Return weights for Keras 3, whose hard sigmoid has the slope 1/6, not 0.2.

    So what goes into the gates is multiplied by 1.2.
    """
    if config.recurrent_activation != "hard_sigmoid":
        return arrays
    factors = {"lstm": (1.2, 1.2, 1, 1.2), "gru": (1.2, 1.2, 1)}[config.cell]
    columns = np.repeat(np.array(factors, np.float32), config.units)
    layers = [
        LayerWeights(layer.kernel * columns, layer.recurrent * columns, layer.bias * columns)
        for layer in arrays.layers
    ]
    return Weights(tuple(layers), arrays.dense_kernel, arrays.dense_bias)


def likeliest(logits: Any, count: int) -> tuple[Any, Any]:
    """Return the probabilities and the ids of the likeliest characters: both (..., count)."""
    best = tf.math.top_k(tf.nn.softmax(logits if count else logits[..., :0]), count)
    return best.values, best.indices


def build_model(
    config: ModelConfig,
    vocab_size: int,
    *,
    batch_size: int,
    on_gpu: bool,
    precision: str = "float32",
) -> CharacterModel:
    """Build the network; its kernels are zeros until ``set_arrays`` sets the weights.

    ``precision`` is that of the matrix products in recurrent layers; weights and logits are always
    float32.
    """
    model = CharacterModel(
        config, vocab_size, batch_size=batch_size, on_gpu=on_gpu, precision=precision
    )
    # Layers create their variables from a shape; no operation needs to run.
    shape: tuple[int | None, ...] = (batch_size, None, vocab_size)
    for layer in model.recurrent:
        layer.build(shape)
        shape = (*shape[:2], config.units)
    model.dense.build(shape)
    model.built = True
    return model


def step_model(
    config: ModelConfig, vocab_size: int, arrays: Iterable[NDArray[np.float32]], names: list[str]
) -> Any:
    """Return the network as a plain Keras model with states as inputs and outputs; no dropout.

    Inputs are ids (B, T), int32, and the states that ``CharacterModel.state`` returns; outputs are
    logits (B, T, V) and the new states. The model is the same with and without a GPU. ``arrays``
    are the weights in the order of a weights file, ``names`` the names of the inputs.
    """
    kinds = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}
    settings: dict[str, Any] = dict(_activation(config))
    if config.cell != "rnn":
        settings["use_cudnn"] = False
    ids = keras.Input((None,), dtype="int32", name=names[0])
    starts = [keras.Input((config.units,), name=name) for name in names[1:]]
    each = len(config.kind.states)
    sequence, states = keras.ops.one_hot(ids, vocab_size), []
    for number in range(config.layers):
        layer = kinds[config.cell](
            config.units,
            return_sequences=True,
            return_state=True,
            dtype="float32",
            name=f"{config.cell}_{number + 1}",
            **settings,
        )
        before = starts[number * each : (number + 1) * each]
        sequence, *after = layer(sequence, initial_state=before)
        states += after
    logits = keras.layers.Dense(vocab_size, dtype="float32", name="dense")(sequence)
    model = keras.Model([ids, *starts], [logits, *states], name="character_model")
    weights = _for_keras(Weights.of(arrays), config)
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    return model
