"""The format saved-model: a folder that TensorFlow alone runs."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.export.artifact import MEMBER, Artifact, Step, input_names, output_names
from charlstm.export.destination import is_pattern
from charlstm.network.backend import tf
from charlstm.network.model import step_model
from charlstm.run.weights import Array

WINDOW = 64  # characters that a step may read


class _Module(tf.Module):  # type: ignore[misc] # TensorFlow is untyped
    """What is saved: ``step``, whose inputs and outputs have an order; a signature has names."""

    def __init__(self, artifact: Artifact) -> None:
        names = input_names(artifact.model)
        model = step_model(artifact.model, artifact.vocab_size, artifact.arrays(), names)
        self.weights = [variable.value for variable in model.trainable_variables]
        shapes = [
            tf.TensorSpec((None, artifact.model.units), tf.float32, name=n) for n in names[1:]
        ]
        ids = tf.TensorSpec((None, None), tf.int32, name=names[0])
        # Given as lists or tuples, what comes out keeps its order; a dictionary is sorted.
        self.step = tf.function(
            lambda *inputs: tuple(model(list(inputs))),
            input_signature=[ids, *shapes],
            autograph=False,
        )
        self.named = tf.function(
            lambda *inputs: dict(
                zip(output_names(artifact.model), self.step(*inputs), strict=True)
            ),
            input_signature=[ids, *shapes],
            autograph=False,
        )


def write(artifact: Artifact, path: Path) -> None:
    """Write the folder; the description in JSON is where TensorFlow wants files of others."""
    module = _Module(artifact)
    path.mkdir()
    tf.get_logger().setLevel("ERROR")  # or it tells where it writes
    try:
        with _plainly_named(path) as folder:
            tf.saved_model.save(module, folder, signatures={"serving_default": module.named})
    except tf.errors.OpError as error:  # so TensorFlow says that a disk is full
        raise OSError(errno.EIO, error.message.splitlines()[-1]) from None
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / MEMBER).write_text(artifact.description, encoding="ascii")


@contextmanager
def _plainly_named(path: Path) -> Iterator[str]:
    """Give a folder a name that TensorFlow does not take for a pattern."""
    if not is_pattern(path):
        yield str(path)
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield str(link)


def load(path: Path) -> Step:
    """Return the step of a folder in TensorFlow."""
    with _plainly_named(path) as folder:
        module: Any = tf.saved_model.load(folder)

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        logits, *following = (tensor.numpy() for tensor in module.step(ids, *states))
        return logits, following

    return step
