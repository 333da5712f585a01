"""The content of an export in any format: weights at a given precision, and a model description.

An artifact is a single step with explicit state. Its inputs are ids (B, T) and the states of each
layer: h and, in an LSTM, c, each (B, U). Its outputs are logits (B, T, V) and the new states, in
the same order.
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
LARGEST = 2**31 - 2**24  # bytes of weights; flatbuffers and protocol buffers are limited to 2 GB
MEMBER = "charlstm.json"  # file name of the description, in formats that contain files
KEY = "charlstm"  # key of the description, in formats with metadata, and name of the graph

# The step of a loaded artifact: ids (1, T), int32, and states -> logits (1, T, V) and states.
Step = Callable[[NDArray[np.int32], list[Array]], tuple[Array, list[Array]]]


@dataclass(frozen=True)
class Stored:
    """A weight array in its stored form: ``values`` times ``scales``.

    ``values`` are float32, float16 or int8. Only int8 has ``scales``, one per column, of shape
    (1, columns).
    """

    values: NDArray[Any]
    scales: Array | None = None

    def array(self) -> Array:
        """Return the float32 array that a runtime computes with."""
        values = self.values.astype(np.float32)
        return values if self.scales is None else values * self.scales


@dataclass(frozen=True)
class Artifact:
    """A model to be exported."""

    model: ModelConfig
    vocab_size: int
    weights: Weights[Stored]
    description: str  # JSON

    def arrays(self) -> Weights[Array]:
        """Return the float32 weights that a runtime computes with."""
        return self.weights.map(Stored.array)


def check_size(artifact: Artifact, name: str) -> None:
    """Raise CharlstmError if the weights are too large for a format limited to 2 GB."""
    if sum(stored.values.nbytes for stored in artifact.weights) > LARGEST:
        raise CharlstmError(
            f"{name}: the weights exceed the 2 GB limit of the format",
            "choose a smaller {precision}, or saved-model, keras or numpy",
            option="format",
        )


def input_names(model: ModelConfig) -> list[str]:
    """Return the names of the inputs, in order."""
    return ["ids", *state_names(model)]


def output_names(model: ModelConfig) -> list[str]:
    """Return the names of the outputs, in order."""
    return ["logits", *(f"{name}_out" for name in state_names(model))]


def zero_state(model: ModelConfig) -> list[Array]:
    """Return the states at the start of a text, each (1, U)."""
    return [np.zeros((1, model.units), np.float32) for _ in state_names(model)]


def make(checkpoint: Checkpoint, precision: str) -> Artifact:
    """Make the artifact of a checkpoint, with its matrices stored at a precision.

    Raises CharlstmError for a weight outside the range of the precision.
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
        **({"unknown": True} if checkpoint.vocabulary.has_unknown else {}),
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
        # Symmetric, with one scale per column, as the weights of one output are similar in size.
        largest = np.abs(matrix).max(axis=0, keepdims=True)
        scales = (largest / 127).astype(np.float32)
        scales = np.where(scales > 0, scales, np.float32(1))
        return Stored(np.round(matrix / scales).astype(np.int8), scales)
    with np.errstate(over="ignore"):
        stored = matrix.astype(precision)
    if not np.isfinite(stored).all():
        raise CharlstmError(
            f"the weights exceed the range of {precision}", "use float32", option="precision"
        )
    return Stored(stored)
