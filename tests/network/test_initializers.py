import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from charlstm.architecture import ModelConfig, shapes
from charlstm.network.initializers import INITIALIZERS, initial_weights

V, U = 70, 200
Array = NDArray[np.float32]
CELLS = pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])


def model(cell: str) -> ModelConfig:
    return ModelConfig(units=U, layers=2, cell=cell)


def is_uniform(array: Array, limit: float) -> bool:
    """Tell whether an array is uniform within +-limit, by its extremes and its deviation."""
    return bool(
        0.99 * limit < np.abs(array).max() <= limit
        and abs(array.std() / (limit / 3**0.5) - 1) < 0.02
    )


def gates(array: Array, cell: str) -> list[Array]:
    return np.split(array, model(cell).kind.gates, axis=1)


@CELLS
@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_the_seed_determines_the_weights_and_no_two_are_equal(cell: str, initializer: str) -> None:
    one, same, other = (initial_weights(model(cell), V, initializer, seed) for seed in (1, 1, 2))
    assert one.map(np.shape) == shapes(model(cell), V)
    assert all(map(np.array_equal, one, same))
    matrices = [*one.layers[0:1], *one.layers[1:]]
    for index, layer in enumerate(matrices):
        assert not np.array_equal(layer.kernel, other.layers[index].kernel)
        assert not np.array_equal(layer.recurrent, other.layers[index].recurrent)
        assert not np.array_equal(layer.kernel[:U], layer.recurrent)
    assert not np.array_equal(one.layers[0].recurrent, one.layers[1].recurrent)


@CELLS
def test_keras_draws_a_kernel_as_one_matrix(cell: str) -> None:
    """Keras's defaults: Glorot uniform, orthogonal, and 1 for the bias of the forget gate."""
    made = initial_weights(model(cell), V, "keras", seed=1)
    for layer, inputs in zip(made.layers, (V, U), strict=True):
        width = layer.kernel.shape[1]
        assert is_uniform(layer.kernel, (6 / (inputs + width)) ** 0.5)
        assert_allclose(layer.recurrent @ layer.recurrent.T, np.eye(U), atol=1e-5)
        assert layer.bias.sum() == (U if cell == "lstm" else 0)
    assert is_uniform(made.dense_kernel, (6 / (U + V)) ** 0.5)
    assert not made.dense_bias.any()


@CELLS
def test_keras_of_2016_drew_each_gate_by_itself(cell: str) -> None:
    made = initial_weights(model(cell), V, "keras-2016", seed=1)
    for layer, inputs in zip(made.layers, (V, U), strict=True):
        for kernel, recurrent in zip(
            gates(layer.kernel, cell), gates(layer.recurrent, cell), strict=True
        ):
            assert is_uniform(kernel, (6 / (inputs + U)) ** 0.5)
            assert_allclose(recurrent @ recurrent.T, 1.1**2 * np.eye(U), atol=1e-5)
    different = {kernel.tobytes() for kernel in gates(made.layers[0].kernel, cell)}
    assert len(different) == model(cell).kind.gates


def test_char_rnn_drew_every_weight_between_008_and_minus_008() -> None:
    made = initial_weights(model("lstm"), V, "uniform", seed=1)
    for layer in made.layers:
        i, f, g, o = np.split(layer.bias, 4)
        rest = np.concatenate([i, f - 1, g, o])
        assert all(is_uniform(array, 0.08) for array in (layer.kernel, layer.recurrent))
        assert np.abs(rest).max() <= 0.08 + 1e-6
    assert is_uniform(made.dense_kernel, 0.08)
    assert made.dense_bias.any()


def test_min_char_rnn_drew_matrices_from_a_normal_distribution() -> None:
    made = initial_weights(model("rnn"), V, "normal", seed=1)
    for matrix in (made.layers[0].kernel, made.layers[0].recurrent, made.dense_kernel):
        assert abs(matrix.std() - 0.01) < 0.0002
        assert abs((matrix**4).mean() / 0.01**4 - 3) < 0.2  # the kurtosis of a normal distribution
    assert not made.layers[0].bias.any()
    assert not made.dense_bias.any()
