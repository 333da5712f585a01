"""TensorFlow and Keras, imported once, quietly, and the device they compute on.

Every room that computes takes ``tf`` and ``keras`` from here. Knows no model.
"""

import contextlib
import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from charlstm.errors import CharlstmError
from charlstm.hardware import affinity, has_bfloat16, named_cores, usable_cores


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep what C++ writes to file descriptor 2 within; show it only if that fails.

    TensorFlow, absl and oneDNN write there whatever the environment says.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:  # from before it is turned away: Ctrl+C can come just behind that
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
    """Return a temporary file, or, where there can be none, what forgets what is written."""
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError:  # no folder for it, or a disk that is full
        return Path(os.devnull).open("r+b", buffering=0)


# Set, not merely defaulted: another backend chosen for other programs is not ours, nor are the
# settings in ~/.keras, which Keras would also write (below a file there can be no folder).
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # noqa: PTH118 - not a real path
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with quiet_stderr():
    import keras
    import tensorflow as tf

    # XLA's own operations: not among tf's names, but what JAX exports to TensorFlow with.
    from tensorflow.compiler.tf2xla.python import xla

OF_THE_GPU = re.compile("cuda|cudnn|cublas|gpu|rnn", re.IGNORECASE)
REASON = 200  # characters of what CUDA says

# What glibc's malloc.h calls M_TOP_PAD: how much more than is needed it fetches, and keeps.
_TOP_PAD, _KEPT = -2, 2**26

NO_GPU = "TensorFlow sees no GPU", "install the driver and pip install 'charlstm[cuda]'"

__all__ = [
    "NO_GPU",
    "Device",
    "choose_precision",
    "keras",
    "named_memory",
    "quiet_stderr",
    "select_device",
    "tf",
    "xla",
]


@dataclass(frozen=True)
class Device:
    """Where to compute; ``on_gpu``: on a GPU, where LSTM layers must use cuDNN.

    ``bfloat16``: it multiplies matrices of such numbers faster than of float32.
    """

    name: str
    on_gpu: bool
    bfloat16: bool = False


def _keep_memory() -> None:
    """Make glibc keep memory that is freed: to fetch it anew costs up to half of a training step.

    It must be said before TensorFlow starts its threads. Where there is no glibc nothing is done.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune:
        tune(_TOP_PAD, _KEPT)


@cache
def select_device(choice: str) -> Device:
    """Make TensorFlow compute on a CPU or on the first GPU.

    ``choice`` is auto, cpu or gpu; a process has one device, whatever is asked for later. Memory
    of a GPU is taken as it is needed, so that one can sample beside a training.

    Raises CharlstmError if a GPU is asked for and there is none, or if this process computes on
    another device already.
    """
    _keep_memory()
    with quiet_stderr():
        gpus: list[Any] = tf.config.list_physical_devices("GPU")
        if choice == "gpu" and not gpus:
            problem, hint = NO_GPU
            raise CharlstmError(problem, f"{hint}, or use {{device}} cpu", option="device")
        chosen = [] if choice == "cpu" else gpus[:1]
        try:
            tf.config.set_visible_devices(chosen, "GPU")
            for gpu in chosen:
                tf.config.experimental.set_memory_growth(gpu, enable=True)
            _limit_threads()
        except RuntimeError:  # TensorFlow has been used: what it was set to then stays
            if bool(tf.config.list_logical_devices("GPU")) != bool(chosen):
                raise CharlstmError(
                    "this process computes on another device already", option="device"
                ) from None
        tf.config.list_logical_devices()
    if not chosen:
        name = f"CPU, {named_cores()}"
        return Device(name, on_gpu=False, bfloat16=has_bfloat16())
    details = tf.config.experimental.get_device_details(chosen[0])
    return Device(f"GPU, {details.get('device_name', chosen[0].name)}", on_gpu=True)


def _limit_threads() -> None:
    """Let TensorFlow have no more threads than there is time for.

    It knows a process's affinity by itself, but no quota of a cgroup.
    """
    if usable_cores() < affinity():
        tf.config.threading.set_intra_op_parallelism_threads(usable_cores())


@contextlib.contextmanager
def named_memory(reduce: str) -> Iterator[None]:
    """Say in one line that the device has too little memory, and what to ``reduce``.

    Raises CharlstmError.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise CharlstmError("out of memory on the device", f"reduce {reduce}") from None
    except (
        tf.errors.InternalError,
        tf.errors.FailedPreconditionError,
        tf.errors.UnknownError,
    ) as error:  # as CUDA and its libraries fail, of a full card as well
        if not OF_THE_GPU.search(error.message):
            raise
        reason = " ".join(error.message.split())[:REASON]
        hint = f"if other programs fill the GPU, wait for their end; or reduce {reduce}"
        raise CharlstmError(f"the GPU failed: {reason}", hint) from None


def choose_precision(choice: str, device: Device) -> str:
    """Return the precision of a training's matrix products: float32, bfloat16 or float16.

    ``choice`` is one of these or auto, which is float32.

    Raises CharlstmError if the device gains nothing by it.
    """
    if choice == "float16" and not device.on_gpu:
        better = "bfloat16" if device.bfloat16 else "float32"
        raise _no_gain("float16: on a CPU it is slower than float32", f"use {better}")
    if choice == "bfloat16" and device.on_gpu:
        raise _no_gain(
            "bfloat16: on a GPU TensorFlow turns it into float32 around cuDNN's LSTM, which gains "
            "nothing",
            "use float16 or float32",
        )
    if choice == "bfloat16" and not device.bfloat16:
        raise _no_gain(
            "bfloat16: this processor does not multiply bfloat16 numbers (avx512_bf16 or "
            "amx_bf16), which would be slower than float32",
            "use float32; a run that was begun with it goes on as a new one, with {init_from}",
        )
    return "float32" if choice == "auto" else choice


def _no_gain(problem: str, hint: str) -> CharlstmError:
    return CharlstmError(problem, hint, option="precision")
