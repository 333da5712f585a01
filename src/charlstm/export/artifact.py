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

from charlstm.architecture import LayerWeights, ModelConfig, Weights, state_names
from charlstm.errors import CharlstmError
from charlstm.run.weights import Array, Checkpoint
from charlstm.version import __version__

FORMAT = 1
LARGEST = 2**31 - 2**24  # bytes of weights in a flatbuffer or a protocol buffer, which end at 2 GB
MEMBER = "charlstm.json"  # the description, where a format holds files
KEY = "charlstm"  # the name of the description, where a format has names, and of the graph

# What is loaded from an artifact: ids (1, T), int32, and states -> logits (1, T, V) and states.
Step = Callable[[NDArray[np.int32], list[Array]], tuple[Array, list[Array]]]


@dataclass(frozen=True)
class Stored:
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
    """A model on its way out."""

    model: ModelConfig
    vocab_size: int
    weights: Weights[Stored]
    description: str  # JSON

    def arrays(self) -> Weights[Array]:
        """Return the weights that it computes with."""
        return self.weights.map(Stored.array)


def check_size(artifact: Artifact, name: str) -> None:
    """Refuse what a format whose files end at 2 GB cannot hold.

    Raises CharlstmError.
    """
    if sum(stored.values.nbytes for stored in artifact.weights) > LARGEST:
        raise CharlstmError(
            f"{name}: files of this format end at 2 GB, which these weights exceed",
            "choose a smaller {precision}, or saved-model, keras or numpy",
            option="format",
        )


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
    weights = checkpoint.weights
    layers = (
        LayerWeights(
            _store(layer.kernel, precision), _store(layer.recurrent, precision), Stored(layer.bias)
        )
        for layer in weights.layers
    )
    dense = _store(weights.dense_kernel, precision), Stored(weights.dense_bias)
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
    stored = Weights(tuple(layers), *dense)
    return Artifact(checkpoint.model, size, stored, json.dumps(description))


def _store(matrix: Array, precision: str) -> Stored:
    if precision == "int8":
        # Symmetric, a scale for each column: one output's weights are of one size.
        largest = np.abs(matrix).max(axis=0, keepdims=True)
        scales = (largest / 127).astype(np.float32)
        scales = np.where(scales > 0, scales, np.float32(1))
        return Stored(np.round(matrix / scales).astype(np.int8), scales)
    with np.errstate(over="ignore"):
        stored = matrix.astype(precision)
    if not np.isfinite(stored).all():
        raise CharlstmError(
            f"{precision}: weights are too large for it", "use float32", option="precision"
        )
    return Stored(stored)
