"""TensorFlow and Keras, imported once, quietly, and the device they compute on.

Every module that computes imports ``tf`` and ``keras`` from here. Knows no model.
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


# These override the user's values: a backend chosen for other programs does not apply here. Nor do
# the settings in ~/.keras, a folder that Keras would also create; under /dev/null, it cannot.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.path.join(os.devnull, "keras")  # noqa: PTH118 - not a real path
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with quiet_stderr():
    import keras
    import tensorflow as tf

    # XLA's operations: not in TensorFlow's public API, but JAX's exports to TensorFlow use them.
    from tensorflow.compiler.tf2xla.python import xla

GPU_ERROR = re.compile("cuda|cudnn|cublas|gpu|rnn", re.IGNORECASE)
REASON = 200  # characters of CUDA's message to quote

# M_TOP_PAD of glibc's malloc.h, and its value: malloc requests and keeps this many extra bytes.
_TOP_PAD, _KEPT = -2, 2**26

NO_GPU = "TensorFlow sees no GPU", "install the driver and pip install 'charlstm[cuda]'"

__all__ = [
    "NO_GPU",
    "Device",
    "choose_precision",
    "keras",
    "memory_errors",
    "quiet_stderr",
    "select_device",
    "strategy_for",
    "tf",
    "xla",
]


@dataclass(frozen=True)
class Device:
    """Where to compute; ``on_gpu``: on a GPU, where LSTM and GRU layers must use cuDNN.

    ``bfloat16``: matrix products are faster there in bfloat16 than in float32. ``replicas``: the
    number of GPUs, or of equal parts of a CPU.
    """

    name: str
    on_gpu: bool
    bfloat16: bool = False
    replicas: int = 1


def _keep_memory() -> None:
    """Make glibc keep freed memory: requesting it again takes up to half of a step's time.

    Call this before TensorFlow starts its threads. Without glibc, it does nothing.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune:
        tune(_TOP_PAD, _KEPT)


@cache
def select_device(choice: str, replicas: int | None = 1) -> Device:
    """Make TensorFlow compute on a CPU or on the first GPUs.

    ``choice`` is auto, cpu or gpu. ``replicas`` is the number of GPUs; None: all. A CPU becomes so
    many devices for TensorFlow; None: one. A process cannot change its device later. GPU memory is
    allocated as needed, so that one can sample while a training runs.

    Raises CharlstmError if there are not as many GPUs as asked for, or if this process already
    computes on another device.
    """
    _keep_memory()
    with quiet_stderr():
        gpus: list[Any] = tf.config.list_physical_devices("GPU")
        if choice == "gpu" and not gpus:
            problem, hint = NO_GPU
            raise CharlstmError(problem, f"{hint}, or use {{device}} cpu", option="device")
        chosen = [] if choice == "cpu" else gpus[:replicas]
        if chosen and len(chosen) < (replicas or 1):
            seen = "1 GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
            raise CharlstmError(f"TensorFlow sees {seen}", f"use {len(gpus)}", option="replicas")
        parts = 1 if chosen else replicas or 1
        try:
            _configure(chosen, parts)
        except RuntimeError:  # TensorFlow is initialised already: its settings are final
            cpus, used = (len(tf.config.list_logical_devices(kind)) for kind in ("CPU", "GPU"))
            if bool(used) != bool(chosen) or used < len(chosen) or cpus < parts:
                raise CharlstmError(
                    "this process already computes on another device", option="device"
                ) from None
        tf.config.list_logical_devices()
    if not chosen:
        name = f"CPU, {named_cores()}" + (f", {parts} replicas" if parts > 1 else "")
        return Device(name, on_gpu=False, bfloat16=has_bfloat16(), replicas=parts)
    details = tf.config.experimental.get_device_details(chosen[0])
    name = details.get("device_name", chosen[0].name)
    several = f"{len(chosen)} GPUs" if len(chosen) > 1 else "GPU"
    return Device(f"{several}, {name}", on_gpu=True, replicas=len(chosen))


def _configure(gpus: list[Any], parts: int) -> None:
    """Make TensorFlow use these GPUs, or none, and a CPU as so many devices.

    Raises RuntimeError if TensorFlow is initialised already.
    """
    tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    if parts > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * parts
        tf.config.set_logical_device_configuration(cpu, devices)
    _limit_threads()


@cache
def strategy_for(device: Device) -> Any:
    """Return the distribution strategy of a device: mirrored if it has several replicas."""
    if device.replicas == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if device.on_gpu else "CPU"
    with quiet_stderr():
        return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(device.replicas)])


def _limit_threads() -> None:
    """Give TensorFlow no more threads than there are usable cores.

    TensorFlow respects the affinity of the process, but not the CPU quota of its cgroup.
    """
    if usable_cores() < affinity():
        tf.config.threading.set_intra_op_parallelism_threads(usable_cores())


@contextlib.contextmanager
def memory_errors(reduce: str) -> Iterator[None]:
    """Turn out-of-memory and GPU errors into one line that says what to ``reduce``.

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
    ) as error:  # from CUDA and its libraries, also when GPU memory is full
        if not GPU_ERROR.search(error.message):
            raise
        reason = " ".join(error.message.split())[:REASON]
        hint = f"wait for other programs that use the GPU, reduce {reduce}, or use {{device}} cpu"
        raise CharlstmError(f"the GPU failed: {reason}", hint) from None


def choose_precision(choice: str, device: Device, *, saved: str | None = None) -> str:
    """Return the precision of a training's matrix products: float32, bfloat16 or float16.

    ``choice`` is one of these or auto: the precision of the ``saved`` state of a resumed run if the
    device supports it, or else bfloat16 on a CPU that supports it, or else float32.

    Raises CharlstmError if the precision is no faster than float32 on the device.
    """
    if choice == "auto":
        supported = _precisions(device)
        return saved if saved in supported else supported[0]
    if choice == "float16" and not device.on_gpu:
        raise _no_gain("float16 is slower than float32 on a CPU", device)
    if choice == "bfloat16" and device.on_gpu:
        raise _no_gain(
            "bfloat16 is no faster than float32 on a GPU: TensorFlow converts it to float32 around "
            "cuDNN's LSTM",
            device,
        )
    if choice == "bfloat16" and not device.bfloat16:
        raise _no_gain(
            "bfloat16 is slower than float32 on this processor, which has neither avx512_bf16 nor "
            "amx_bf16",
            device,
        )
    return choice


def _precisions(device: Device) -> tuple[str, ...]:
    """Return the precisions that a device supports and gains from, the default one first."""
    if device.on_gpu:
        return "float32", "float16"
    return ("bfloat16", "float32") if device.bfloat16 else ("float32",)


def _no_gain(problem: str, device: Device) -> CharlstmError:
    return CharlstmError(problem, f"use {' or '.join(_precisions(device))}", option="precision")
