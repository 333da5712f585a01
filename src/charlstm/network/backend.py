"""TensorFlow and Keras, imported once and quietly.

Every module that computes imports ``tf`` and ``keras`` from here.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Capture what C++ code writes to file descriptor 2; show it only if the block fails.

    TensorFlow, absl and oneDNN write there whatever their environment variables say.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:  # begins before the redirection: Ctrl+C can arrive right after it
        with _capture() as captured:
            os.dup2(captured.fileno(), 2)
            try:
                yield
            except Exception:  # not Ctrl+C
                captured.seek(0)
                os.write(saved, captured.read())
                raise
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _capture() -> BinaryIO:
    """Return a temporary file, or if none can be created, the null device."""
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError:  # no temporary folder, or a full disk
        return Path(os.devnull).open("r+b", buffering=0)


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Make imports of a module fail in the block, unless it has been imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # Python's way to forbid an import
    try:
        yield
    finally:
        del sys.modules[module]


# These override the user's values: a backend chosen for other programs does not apply here. Nor do
# the settings in ~/.keras, a folder that Keras would also create; under /dev/null, it cannot.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # noqa: PTH118 - not a real path
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Keras imports matplotlib, to show images, of which charlstm has none; it does without if it must,
# and a sixth of the time of all these imports is saved.
with quiet_stderr(), _without("matplotlib"):
    import keras
    import tensorflow as tf

    # XLA's operations: not in TensorFlow's public API, but JAX's exports to TensorFlow use them.
    from tensorflow.compiler.tf2xla.python import xla

__all__ = ["keras", "quiet_stderr", "tf", "xla"]
