"""The format keras: a file that plain Keras loads, without custom objects."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.export.artifact import MEMBER, Artifact, Step, input_names
from charlstm.network.backend import keras
from charlstm.network.model import step_model
from charlstm.run.weights import Array

WINDOW = 64  # characters per step when an export is measured


def write(artifact: Artifact, path: Path) -> None:
    """Write the file; the JSON description is a member of its zip archive."""
    names = input_names(artifact.model)
    step_model(artifact.model, artifact.vocab_size, artifact.arrays(), names).save(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo(MEMBER), artifact.description)


def load(path: Path) -> Step:
    """Load a file in Keras; return its step."""
    model = keras.saving.load_model(path, compile=False)

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        logits, *following = model.predict_on_batch([ids, *states])
        return logits, following

    return step
