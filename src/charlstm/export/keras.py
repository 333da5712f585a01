"""The format keras: a file that plain Keras loads, without any object of ours."""

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.export.artifact import MEMBER, Artifact, Step, input_names
from charlstm.network.backend import keras
from charlstm.network.model import step_model
from charlstm.run.weights import Array

WINDOW = 64  # characters that a step may read


def write(artifact: Artifact, path: Path) -> None:
    """Write the file; the description in JSON is a member of it."""
    names = input_names(artifact.model)
    step_model(artifact.model, artifact.vocab_size, artifact.arrays(), names).save(path)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo(MEMBER), artifact.description)


def load(path: Path) -> Step:
    """Return the step of a file in Keras."""
    model = keras.saving.load_model(path, compile=False)

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        logits, *following = model.predict_on_batch([ids, *states])
        return logits, following

    return step
