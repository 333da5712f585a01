from typing import Any

import numpy as np
import pytest
from conftest import hard_sigmoid

from charlstm.network import recurrence
from charlstm.network.backend import keras, tf

U, INPUTS = 5, 7


def outcome(layer: Any, x: Any, states: list[Any], upstream: list[Any]) -> list[Any]:
    """Return outputs, states, and the gradients of initial states, weights and inputs."""
    variables = layer.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch([x, *states])
        results = layer(x, initial_state=states)
        loss = sum(tf.reduce_sum(r * u) for r, u in zip(results, upstream, strict=True))
    return [*results, *tape.gradient(loss, [*states, *variables, x])]


HARD = {"recurrent_activation": hard_sigmoid}
LAYERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (keras.layers.LSTM, recurrence.LSTM, {"use_cudnn": False}),
    "gru": (keras.layers.GRU, recurrence.GRU, {"use_cudnn": False}),
    "rnn": (keras.layers.SimpleRNN, recurrence.SimpleRNN, {}),
    "relu rnn": (keras.layers.SimpleRNN, recurrence.SimpleRNN, {"activation": "relu"}),
    "hard lstm": (keras.layers.LSTM, recurrence.LSTM, {"use_cudnn": False, **HARD}),
    "hard gru": (keras.layers.GRU, recurrence.GRU, {"use_cudnn": False, **HARD}),
}


def largest_difference(
    name: str, batch: int, steps: int, *, of_ids: bool = False, **settings: Any
) -> float:
    """Return our layer's largest difference from Keras's, relative to each tensor's largest value.

    ``of_ids``: our layer gets ids, Keras's layer their one-hot vectors.
    """
    random = np.random.default_rng(3)

    def normal(*shape: int) -> Any:
        return tf.constant(random.normal(size=shape), tf.float32)

    theirs, ours, special = LAYERS[name]
    count = 2 if "lstm" in name else 1
    x, states = normal(batch, steps, INPUTS), [normal(batch, U) for _ in range(count)]
    ids = tf.constant(random.integers(INPUTS - 1, size=(batch, steps, 1)))  # without the last id
    both_x = [tf.one_hot(ids[..., 0], INPUTS), ids] if of_ids else [x, x]
    upstream = [normal(batch, steps, U), *(normal(batch, U) for _ in range(count))]
    both = {"return_sequences": True, "return_state": True}
    special_of_ours = {key: value for key, value in special.items() if key != "use_cudnn"}
    layers = [
        theirs(U, **both, **special),
        ours(U, on_gpu=False, **both, **special_of_ours, **settings),
    ]
    for layer in layers:
        layer.build(x.shape)
    shapes = [variable.shape for variable in layers[0].trainable_variables]
    weights = [random.normal(size=shape, scale=0.5).astype("f4") for shape in shapes]
    for layer in layers:
        layer.set_weights(weights)
    expected, found = (
        outcome(layer, x, states, upstream) for layer, x in zip(layers, both_x, strict=True)
    )
    if of_ids:
        assert found.pop() is None
        del expected[-1]
    assert {tensor.dtype for tensor in found} == {tf.float32}
    return max(
        float(np.abs(f - e).max() / np.abs(e).max()) for e, f in zip(expected, found, strict=True)
    )


@pytest.mark.parametrize("steps", [1, 2, 11])
@pytest.mark.parametrize("batch", [1, 3, 16, 24])  # 16 and 24: split into groups of rows
@pytest.mark.parametrize("name", LAYERS)
def test_results_and_gradients_equal_those_of_keras(
    name: str, steps: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlstm.network.recurrence.usable_cores", lambda: 2)
    assert largest_difference(name, batch, steps) <= 1e-5


@pytest.mark.parametrize("steps", [1, 11])
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_ids_give_the_same_results_as_one_hot_vectors(name: str, batch: int, steps: int) -> None:
    assert largest_difference(name, batch, steps, of_ids=True) <= 1e-5


@pytest.mark.parametrize("name", LAYERS)
def test_a_reset_state_is_zero_and_passes_no_gradient_on(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each time step were a call, with states that are set to zero before some of them."""
    monkeypatch.setattr("charlstm.network.recurrence.usable_cores", lambda: 2)
    random, batch, steps = np.random.default_rng(3), 16, 7
    _, ours, special = LAYERS[name]
    special = {key: value for key, value in special.items() if key != "use_cudnn"}
    layer = ours(U, on_gpu=False, return_sequences=True, return_state=True, **special)
    layer.build((batch, steps, INPUTS))
    for variable in layer.trainable_variables:
        variable.assign(random.normal(size=variable.shape, scale=0.5))
    x = tf.constant(random.normal(size=(batch, steps, INPUTS)), tf.float32)
    keep = tf.constant(random.random((batch, steps)) > 0.3, tf.float32)
    upstream = tf.constant(random.normal(size=(batch, steps, U)), tf.float32)
    count = 2 if "lstm" in name else 1
    first = [tf.constant(random.normal(size=(batch, U)), tf.float32) for _ in range(count)]

    def step_by_step() -> Any:
        states, outputs = first, []
        for t in range(steps):
            states = [state * keep[:, t : t + 1] for state in states]
            output, *states = layer(x[:, t : t + 1], initial_state=states)
            outputs.append(output)
        return tf.concat(outputs, 1), *states

    def at_once() -> Any:
        return layer(x, initial_state=first, keep=keep)

    found = []
    for run in (at_once, step_by_step):
        with tf.GradientTape() as tape:
            tape.watch([x, *first])
            outputs, *states = run()
            loss = tf.reduce_sum(outputs * upstream) + sum(tf.reduce_sum(s) for s in states)
        gradients = tape.gradient(loss, [x, *first, *layer.trainable_variables])
        found.append([outputs, *states, *gradients])
    for one, other in zip(*found, strict=True):
        assert np.abs(one - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 11), (128, 2)])  # 128: split into groups
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])  # relu's gradient jumps at 0
def test_products_in_bfloat16_are_close_to_those_in_float32(
    name: str, batch: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bfloat16 has 8 significant bits: its error is up to 1/512, and sums here are short."""
    monkeypatch.setattr("charlstm.network.recurrence.usable_cores", lambda: 2)
    assert 1e-4 < largest_difference(name, batch, steps, bfloat16=True) < 5e-2


def test_groups_have_every_row_once_and_at_least_the_fewest_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cores in (1, 2, 3, 64):
        monkeypatch.setattr("charlstm.network.recurrence.usable_cores", lambda cores=cores: cores)
        for batch in (1, 2, 7, 16, 17, 24, 96):
            groups = recurrence.row_groups(batch, 8)
            assert [row for start, stop in groups for row in range(start, stop)] == [*range(batch)]
            assert len(groups) <= cores
            assert len({stop - start for start, stop in groups}) == 1
            assert len(groups) == 1 or batch // len(groups) >= 8
