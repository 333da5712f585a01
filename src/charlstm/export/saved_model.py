"""The format saved-model: a folder that runs in TensorFlow alone."""

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

WINDOW = 64  # characters per step when an export is measured


class _Module(tf.Module):  # type: ignore[misc] # TensorFlow is untyped
    """The object to save: ``step`` has ordered inputs and outputs, ``named`` has named ones."""

    def __init__(self, artifact: Artifact) -> None:
        names = input_names(artifact.model)
        model = step_model(artifact.model, artifact.vocab_size, artifact.arrays(), names)
        self.weights = [variable.value for variable in model.trainable_variables]
        shapes = [
            tf.TensorSpec((None, artifact.model.units), tf.float32, name=n) for n in names[1:]
        ]
        ids = tf.TensorSpec((None, None), tf.int32, name=names[0])
        # A tuple of outputs keeps its order; TensorFlow would sort a dictionary.
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
    """Write the folder; the JSON description is in ``assets.extra``, which is meant for it."""
    module = _Module(artifact)
    path.mkdir()
    tf.get_logger().setLevel("ERROR")  # silences a message about where it writes
    try:
        with _plainly_named(path) as folder:
            tf.saved_model.save(module, folder, signatures={"serving_default": module.named})
    except tf.errors.OpError as error:  # TensorFlow raises this when the disk is full
        raise OSError(errno.EIO, error.message.splitlines()[-1]) from None
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / MEMBER).write_text(artifact.description, encoding="ascii")


@contextmanager
def _plainly_named(path: Path) -> Iterator[str]:
    """Yield a path to a folder that TensorFlow does not read as a glob pattern."""
    if not is_pattern(path):
        yield str(path)
        return
    with TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield str(link)


def load(path: Path) -> Step:
    """Load a folder in TensorFlow; return its step."""
    with _plainly_named(path) as folder:
        module: Any = tf.saved_model.load(folder)

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        logits, *following = (tensor.numpy() for tensor in module.step(ids, *states))
        return logits, following

    return step
