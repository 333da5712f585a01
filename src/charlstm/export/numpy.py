"""The format numpy: all arrays in one ``.npz`` file, and a step in numpy."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import ModelConfig
from charlstm.export.artifact import KEY, Artifact, Step
from charlstm.run.weights import Array

WINDOW = 64  # characters per step when an export is measured


def write(artifact: Artifact, path: Path) -> None:
    """Write the arrays by name, their scales as ``NAME_scale``, and the JSON description."""
    stored = artifact.weights.named()
    arrays: dict[str, NDArray[Any]] = {name: w.values for name, w in stored.items()}
    scales = {f"{n}_scale": w.scales for n, w in stored.items() if w.scales is not None}
    with path.open("wb") as file:
        np.savez(file, **{KEY: np.bytes_(artifact.description.encode())}, **arrays, **scales)  # type: ignore[arg-type] # savez's ``allow_pickle``


def load(path: Path) -> Step:
    """Load a file with numpy alone; return its step."""
    with np.load(path) as file:
        arrays = dict(file)
    model = json.loads(arrays.pop(KEY).item())["model"]
    one = np.float32(1)
    return step_of(
        {
            name: array * arrays.get(f"{name}_scale", one)
            for name, array in arrays.items()
            if not name.endswith("_scale")
        },
        ModelConfig(**model),
    )


def step_of(weights: Mapping[str, Array], model: ModelConfig) -> Step:
    """Return the step of a model with these weights, by name."""
    layers = [
        tuple(weights[f"{part}_{number}"] for part in ("kernel", "recurrent", "bias"))
        for number in range(1, model.layers + 1)
    ]
    kernel, bias = weights["dense_kernel"], weights["dense_bias"]
    advance, activate = _ADVANCE[model.cell], _ACTIVATIONS[model.nonlinearity]
    each = len(model.kind.states)

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        logits = []
        for column in ids.T:
            following: list[Array] = []
            for number, (w, u, b) in enumerate(layers):
                # A one-hot vector times the kernel is a row of the kernel.
                inputs = following[-each] @ w if number else w[column]
                before = states[number * each : (number + 1) * each]
                following += advance(activate, inputs, before[0] @ u, b, before)
            states = following
            logits.append(states[-each] @ kernel + bias)
        return np.stack(logits, 1), states

    return step


Function = Callable[[Any], Any]


def _lstm(gate: Function, inputs: Any, product: Any, bias: Any, states: Any) -> list[Any]:
    i, f, g, o = np.split(inputs + product + bias, 4, 1)
    c = gate(f) * states[1] + gate(i) * np.tanh(g)
    return [gate(o) * np.tanh(c), c]


def _gru(gate: Function, inputs: Any, product: Any, bias: Any, states: Any) -> list[Any]:
    x_z, x_r, x_g = np.split(inputs + bias[0], 3, 1)
    h_z, h_r, h_g = np.split(product + bias[1], 3, 1)
    z, g = gate(x_z + h_z), np.tanh(x_g + gate(x_r + h_r) * h_g)
    return [z * states[0] + (1 - z) * g]


def _rnn(activation: Function, inputs: Any, product: Any, bias: Any, _states: Any) -> list[Any]:
    return [activation(inputs + product + bias)]


_ACTIVATIONS: dict[str, Function] = {
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),  # 1 / (1 + exp(-x)) can overflow
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
}
_ADVANCE: dict[str, Callable[..., list[Any]]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
