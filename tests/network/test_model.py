import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import EVERY_CELL, hard_sigmoid, new_model
from numpy.testing import assert_allclose
from oracle import Oracle

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.network.backend import keras, tf
from charlstm.network.model import CharacterModel, Dropout, build_model
from charlstm.run.weights import Checkpoint, layout, write_checkpoint
from charlstm.text.vocabulary import Vocabulary
from charlstm.text.windows import Windows
from charlstm.training.step import Trainer, dropout_key

B, T, U, V, L = 2, 3, 5, 7, 4  # no two axes have the same length
CONFIG = ModelConfig(units=U, layers=L, dropout=0.5)
IDS = np.array([[1, 2, 3], [6, 0, 2]])


LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


def model(batch_size: int = B, **changes: Any) -> CharacterModel:
    return new_model(replace(CONFIG, **changes), V, batch_size)


def keras_model(kind: dict[str, Any]) -> Any:
    """Return the same network, written in plain Keras."""
    settings: dict[str, Any] = {"stateful": True, "return_sequences": True}
    settings["activation"] = kind.get("activation", "tanh")
    if "recurrent_activation" in kind:
        settings["recurrent_activation"] = hard_sigmoid
    layers: list[Any] = [keras.Input(batch_shape=(B, None, V))]
    for _ in range(L):
        layers += [LAYERS[kind["cell"]](U, **settings)]
        layers += [keras.layers.Dropout(0.5)]
    return keras.Sequential([*layers, keras.layers.Dense(V)])


@EVERY_CELL
def test_logits_equal_those_of_keras(kind: dict[str, Any]) -> None:
    ours, theirs = model(**kind), keras_model(kind)
    theirs.set_weights(list(ours.arrays()))
    for _ in range(2):  # the second time from the state after the first
        assert_allclose(ours(IDS), theirs(tf.one_hot(IDS, V)), atol=1e-6)


@EVERY_CELL
def test_the_layout_of_weights_files_is_keras_own(kind: dict[str, Any], tmp_path: Path) -> None:
    keras_model(kind).save_weights(tmp_path / "theirs.weights.h5")
    found: dict[str, tuple[int, ...]] = {}
    with h5py.File(tmp_path / "theirs.weights.h5") as file:
        file.visititems(
            lambda name, item: found.update({name: item.shape} if hasattr(item, "shape") else {})
        )
    expected = layout(replace(CONFIG, **kind), V)
    assert found == expected
    assert list(expected.values()) == [array.shape for array in model(**kind).arrays()]


@EVERY_CELL
def test_logits_equal_those_of_the_oracle(kind: dict[str, Any], tmp_path: Path) -> None:
    ours = model(1, **kind)
    arrays = ours.arrays().map(lambda array: array + np.float32(0.1))  # biases too
    ours.set_arrays(arrays)
    path, letters = tmp_path / "x.h5", "abcdefg"
    config = replace(CONFIG, **kind)
    write_checkpoint(path, Checkpoint(1, config, Vocabulary(letters), arrays))
    text = "gabbacadef"
    ids = np.array([[letters.index(character) for character in text]])
    assert_allclose(ours(ids)[0], Oracle(path).logits(text), atol=1e-5)


def test_each_row_of_a_batch_equals_a_batch_of_one() -> None:
    batch, single = model(), model(1)
    for row in range(B):
        batch.reset_state()
        single.reset_state()
        for _ in range(2):
            assert_allclose(batch(IDS)[row], single(IDS[row : row + 1])[0], atol=1e-6)


def test_a_window_gives_the_same_logits_as_its_characters_one_by_one() -> None:
    whole, single = model(), model()
    window = whole(IDS)
    steps = [single(IDS[:, t : t + 1])[:, 0] for t in range(T)]
    assert_allclose(window, np.stack(steps, axis=1), atol=1e-6)


def test_the_state_can_be_restored_and_reset_to_zero() -> None:
    net = model()
    first = net(IDS)
    state = net.state()
    assert len(state) == 2 * L
    assert all(part.shape == (B, U) and part.any() for part in state)
    second = net(IDS)
    assert np.abs(second - first).max() > 1e-6
    net.set_state(state)
    assert np.array_equal(net(IDS), second)
    net.reset_state()
    assert np.array_equal(net(IDS), first)


def test_dropout_has_the_right_rate_and_scale_and_depends_on_its_seed() -> None:
    layer, ones = Dropout(0.25), tf.ones((100, 1000))
    first, same, other = (layer(ones, tf.constant(s, tf.int64)) for s in ([1, 2], [1, 2], [1, 3]))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    assert abs(np.mean(first == 0) - 0.25) < 0.01
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}


def test_dropout_is_the_same_with_xla() -> None:
    ones, seed = tf.ones((7, 1000)), tf.constant([1, 2], tf.int64)
    plain, compiled = (Dropout(0.3, xla=xla)(ones, seed) for xla in (False, True))
    assert np.array_equal(plain, compiled)


def test_dropout_is_off_unless_a_seed_is_given() -> None:
    net, key = model(), tf.constant([1, 0], tf.int64)
    outputs = []
    for seed in (None, None, key):
        net.reset_state()
        outputs.append(np.asarray(net(IDS, dropout_seed=seed)))
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_all_dropout_masks_of_a_training_have_different_keys() -> None:
    key = [dropout_key(seed, e, s) for seed in (0, 1) for e in (1, 2) for s in (1, 2)]
    keys = {
        (a, b + 256 * replica + layer) for a, b in key for replica in (0, 1) for layer in (0, 1)
    }
    assert len(keys) == 32


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_gradient_is_dense(cell: str) -> None:
    """TensorFlow sums sparse ones, as of a row look-up, slowly over several devices."""
    net = build_model(replace(CONFIG, cell=cell), V, batch_size=B, on_gpu=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(net(IDS))
    for gradient in tape.gradient(loss, net.trainable_variables):
        assert isinstance(gradient, tf.Tensor)


@pytest.mark.parametrize(("precision", "kind"), [("float32", tf.float32), ("float16", tf.half)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_on_a_gpu_every_layer_of_the_training_step_uses_cudnn(
    cell: str, precision: str, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trace the step as on a GPU, without running it."""
    monkeypatch.setattr(
        sys.modules["keras.src.backend.tensorflow.rnn"], "_is_gpu_available", lambda: True
    )
    config = TrainConfig(batch_size=B, sequence_length=T, precision=precision)
    trainer = Trainer(replace(CONFIG, cell=cell), config, V, on_gpu=True)
    traced = trainer.trace(Windows(np.zeros(50, np.uint8), B, T))
    definition = traced.graph.as_graph_def()
    nodes = list(definition.node)
    nodes += [node for function in definition.library.function for node in function.node_def]
    kinds = [(node.op, node.attr["T"].type) for node in nodes if node.op.startswith("CudnnRNN")]
    found = {kind: kinds.count(kind) for kind in kinds}
    assert found == {(op, kind.as_datatype_enum): L for op in ("CudnnRNNV3", "CudnnRNNBackpropV3")}


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_on_a_gpu_hard_gates_run_without_cudnn(cell: str) -> None:
    config = replace(CONFIG, cell=cell, recurrent_activation="hard_sigmoid")
    arrays = new_model(config, V, B).arrays()
    nets = [build_model(config, V, batch_size=B, on_gpu=on_gpu) for on_gpu in (True, False)]
    for net in nets:
        net.set_arrays(arrays)
    assert_allclose(nets[0](IDS), nets[1](IDS), atol=1e-6)


def test_without_a_gpu_cudnn_raises_instead_of_falling_back() -> None:
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        build_model(CONFIG, V, batch_size=B, on_gpu=True)(IDS)
