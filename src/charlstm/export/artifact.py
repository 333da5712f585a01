"""What every format is made of: weights at a precision, and the description of the model.

An artifact is one step with explicit state: ids (B, T) and, of each layer, h and, if its cell has
one, c (B, U); out come logits (B, T, V) and the states, in the same order.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import __version__
from charlstm.checkpoint import Checkpoint
from charlstm.config import ModelConfig
from charlstm.errors import CharlstmError

FORMAT = 1
LARGEST = 2**31 - 2**24  # bytes of weights in a flatbuffer or a protocol buffer, which end at 2 GB
MEMBER = "charlstm.json"  # the description, where a format holds files
KEY = "charlstm"  # the name of the description, where a format has names, and of the graph
STATES = {"lstm": ("h", "c"), "gru": ("h",), "rnn": ("h",)}

Array = NDArray[np.float32]
# What is loaded from an artifact: ids (1, T), int32, and states -> logits (1, T, V) and states.
Step = Callable[[NDArray[np.int32], list[Array]], tuple[Array, list[Array]]]


@dataclass(frozen=True)
class Weights:
    """One array of the weights as it is stored: ``values`` times ``scales``.

    ``values`` are float32, float16 or int8; these have a scale of their own for each column, of
    shape (1, columns).
    """

    values: NDArray[Any]
    scales: Array | None = None

    def array(self) -> Array:
        """Return what a runtime computes with."""
        values = self.values.astype(np.float32)
        return values if self.scales is None else values * self.scales


@dataclass(frozen=True)
class Artifact:
    """A model on its way out; ``layers`` has kernel, recurrent kernel and bias of each."""

    model: ModelConfig
    vocab_size: int
    layers: list[tuple[Weights, Weights, Weights]]
    dense: tuple[Weights, Weights]
    description: str  # JSON

    def weights(self) -> dict[str, Weights]:
        """Return all arrays by name, in the order of a weights file."""
        parts = ("kernel", "recurrent", "bias")
        named = {
            f"{part}_{number}": weights
            for number, layer in enumerate(self.layers, 1)
            for part, weights in zip(parts, layer, strict=True)
        }
        return named | {"dense_kernel": self.dense[0], "dense_bias": self.dense[1]}

    def arrays(self) -> list[Array]:
        """Return the weights that it computes with, in the order of a weights file."""
        return [weights.array() for weights in self.weights().values()]


def check_size(artifact: Artifact, name: str) -> None:
    """Refuse what a format whose files end at 2 GB cannot hold.

    Raises CharlstmError.
    """
    if sum(weights.values.nbytes for weights in artifact.weights().values()) > LARGEST:
        raise CharlstmError(
            f"--format {name}: files of this format end at 2 GB, which these weights exceed; "
            "choose a smaller --precision, or saved-model, keras or numpy"
        )


def state_names(model: ModelConfig) -> list[str]:
    """Return the names of the states, in order: h_1, c_1, h_2 and so on."""
    return [f"{name}_{number + 1}" for number in range(model.layers) for name in STATES[model.cell]]


def input_names(model: ModelConfig) -> list[str]:
    """Return the names of what goes in, in order."""
    return ["ids", *state_names(model)]


def output_names(model: ModelConfig) -> list[str]:
    """Return the names of what comes out, in order."""
    return ["logits", *(f"{name}_out" for name in state_names(model))]


def zero_state(model: ModelConfig) -> list[Array]:
    """Return the states that a text begins with, each (1, U)."""
    return [np.zeros((1, model.units), np.float32) for _ in state_names(model)]


def make(checkpoint: Checkpoint, precision: str) -> Artifact:
    """Make an artifact of a checkpoint, its matrices stored in a precision.

    Raises CharlstmError for a weight that the precision cannot hold.
    """
    *rest, kernel, bias = checkpoint.arrays
    layers = [
        (_store(rest[i], precision), _store(rest[i + 1], precision), Weights(rest[i + 2]))
        for i in range(0, len(rest), 3)
    ]
    dense = _store(kernel, precision), Weights(bias)
    description = {
        "format": FORMAT,
        "charlstm": __version__,
        "precision": precision,
        "inputs": input_names(checkpoint.model),
        "outputs": output_names(checkpoint.model),
        "model": {name: v for name, v in asdict(checkpoint.model).items() if v is not None},
        "vocabulary": checkpoint.vocabulary.characters,
        "epoch": checkpoint.epoch,
        "metrics": dict(checkpoint.metrics),
        "training": dict(checkpoint.training),
        "versions": dict(checkpoint.versions),
        "clock": dict(checkpoint.clock),
    }
    size = len(checkpoint.vocabulary)
    return Artifact(checkpoint.model, size, layers, dense, json.dumps(description))


def _store(matrix: Array, precision: str) -> Weights:
    if precision == "int8":
        # Symmetric, a scale for each column: one output's weights are of one size.
        largest = np.abs(matrix).max(axis=0, keepdims=True)
        scales = (largest / 127).astype(np.float32)
        scales = np.where(scales > 0, scales, np.float32(1))
        return Weights(np.round(matrix / scales).astype(np.int8), scales)
    with np.errstate(over="ignore"):
        stored = matrix.astype(precision)
    if not np.isfinite(stored).all():
        raise CharlstmError(f"--precision {precision}: weights are too large for it; use float32")
    return Weights(stored)
