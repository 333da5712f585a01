"""TensorFlow and Keras, imported once, quietly, and the device they compute on.

Every room that computes takes ``tf`` and ``keras`` from here. Knows no model.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from charlstm.errors import CharlstmError


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what C++ writes to file descriptor 2 at import; show it only if the import fails.

    TensorFlow, absl and oneDNN write there whatever the environment says.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as captured:
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


# Set, not merely defaulted: another backend chosen for other programs is not ours, nor are the
# settings in ~/.keras, which Keras would also write (below a file there can be no folder).
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # noqa: PTH118 - not a real path
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with _quiet_stderr():
    import keras
    import tensorflow as tf

__all__ = ["Device", "keras", "select_device", "tf"]


@dataclass(frozen=True)
class Device:
    """Where to compute; ``cudnn``: LSTM layers must use cuDNN there."""

    name: str
    cudnn: bool


def select_device(choice: str) -> Device:
    """Make TensorFlow compute on a CPU or on the first GPU; call once, before any other operation.

    ``choice`` is auto, cpu or gpu. Memory of a GPU is taken as it is needed, so that one can
    sample beside a training.

    Raises CharlstmError if a GPU is asked for and there is none.
    """
    with _quiet_stderr():
        gpus: list[Any] = tf.config.list_physical_devices("GPU")
        if choice == "gpu" and not gpus:
            raise CharlstmError(
                "--device gpu: TensorFlow sees no GPU; install the driver and "
                "pip install 'charlstm[cuda]', or use --device cpu"
            )
        chosen = [] if choice == "cpu" else gpus[:1]
        tf.config.set_visible_devices(chosen, "GPU")
        for gpu in chosen:
            tf.config.experimental.set_memory_growth(gpu, enable=True)
        tf.config.list_logical_devices()
    if not chosen:
        return Device(f"CPU, {os.cpu_count()} cores", cudnn=False)
    details = tf.config.experimental.get_device_details(chosen[0])
    return Device(f"GPU, {details.get('device_name', chosen[0].name)}", cudnn=True)
