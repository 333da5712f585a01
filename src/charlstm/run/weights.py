"""A weights file: its contents and layout; writing it. ``weights_reader`` reads it.

The layout is that of Keras's own ``.weights.h5`` files, plus a dataset ``charlstm`` that describes
the model in JSON. Works on arrays, not layers. Knows no run folders.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from charlstm import files
from charlstm.architecture import LayerWeights, ModelConfig, Weights, shapes
from charlstm.run.description import DESCRIPTION, RESUME, Description, seal, sha256, to_json

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Checkpoint(Description):
    """The contents of a weights file.

    ``states`` are the arrays, by name, that a training needs besides the weights to continue from
    ``position`` as if it had never stopped.
    """

    weights: Weights[Array]
    _: KW_ONLY
    states: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def described(self) -> Description:
        """Return the description alone, without the arrays, which take memory."""
        return Description(**{f.name: getattr(self, f.name) for f in fields(Description)})


def paths(model: ModelConfig) -> Weights[str]:
    """Return the path of each weight in the file, as Keras lays it out."""
    kind = model.kind.keras_name
    groups = (f"{kind}_{number}" if number else kind for number in range(model.layers))
    layers = (
        LayerWeights(*(f"layers/{group}/cell/vars/{variable}" for variable in range(3)))
        for group in groups
    )
    return Weights(tuple(layers), "layers/dense/vars/0", "layers/dense/vars/1")


def layout(model: ModelConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight, by its path in the file."""
    return dict(zip(paths(model), shapes(model, vocab_size), strict=True))


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a weights file.

    Raises OSError.
    """
    expected = layout(checkpoint.model, len(checkpoint.vocabulary))
    arrays: dict[str, NDArray[Any]] = dict(zip(expected, checkpoint.weights, strict=True))
    assert all(array.shape == expected[name] for name, array in arrays.items())
    arrays |= {f"{RESUME}/{name}": array for name, array in checkpoint.states.items()}
    kinds = {name: (array.dtype, array.shape) for name, array in checkpoint.states.items()}
    description = to_json(checkpoint, kinds)
    description["sha256"] = {name: sha256(array.tobytes()) for name, array in arrays.items()}
    description["sha256"][DESCRIPTION] = seal(description)
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, dtype=array.dtype)
        # Fixed-length: HDF5 stores variable-length strings in a heap, and crashed on damaged ones.
        file.create_dataset(DESCRIPTION, data=np.bytes_(json.dumps(description).encode("ascii")))
    files.replace_file(path, image.getvalue())
