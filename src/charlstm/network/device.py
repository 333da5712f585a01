"""The devices that a process computes on, their memory and their precision. Knows no model."""

import contextlib
import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from charlstm.cluster import ALONE, Cluster
from charlstm.errors import CharlstmError
from charlstm.hardware import affinity, has_bfloat16, has_gpu_driver, named_cores, usable_cores
from charlstm.network.backend import quiet_stderr, tf
from charlstm.network.workers import join

GPU_ERROR = re.compile("cuda|cudnn|cublas|gpu|rnn", re.IGNORECASE)
REASON = 200  # characters of CUDA's message to quote

# M_TOP_PAD of glibc's malloc.h, and its value: malloc requests and keeps this many extra bytes.
_TOP_PAD, _KEPT = -2, 2**26


@dataclass(frozen=True)
class Device:
    """Where to compute; ``on_gpu``: on GPUs, where LSTM and GRU layers must use cuDNN.

    ``bfloat16``: matrix products are faster there in bfloat16 than in float32. ``replicas``: the
    number of GPUs, or of equal parts of CPUs, of all workers of the cluster together; the
    ``strategy`` distributes a training over them.
    """

    name: str
    on_gpu: bool
    bfloat16: bool = False
    replicas: int = 1
    cluster: Cluster = ALONE
    strategy: Any = field(default_factory=tf.distribute.get_strategy, compare=False)


def _unmet(_: str) -> None:
    pass


def no_gpu() -> tuple[str, str]:
    """Return what to say if TensorFlow sees no GPU, and what to do."""
    packages = "pip install 'charlstm[cuda]'"
    if has_gpu_driver():
        return "TensorFlow sees no GPU, but NVIDIA's driver is installed", packages
    return "TensorFlow sees no GPU", f"install the driver and {packages}"


def _keep_memory() -> None:
    """Make glibc keep freed memory: requesting it again takes up to half of a step's time.

    Call this before TensorFlow starts its threads. Without glibc, it does nothing.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if tune:
        tune(_TOP_PAD, _KEPT)


@cache
def select_device(
    choice: str,
    replicas: int | None = 1,
    cluster: Cluster = ALONE,
    meet: Callable[[str], object] = _unmet,
) -> Device:
    """Make TensorFlow compute on a CPU or on the first GPUs, and join the cluster if there is one.

    ``choice`` is auto, cpu or gpu. ``replicas`` is the number of GPUs of this process; None: all. A
    CPU becomes so many devices for TensorFlow; None: one. A process cannot change its device later.
    GPU memory is allocated as needed, so that one can sample while a training runs. ``meet`` is
    called before TensorFlow connects the workers of a cluster, with a description of the devices.

    Raises CharlstmError if there are not as many GPUs as asked for, or if this process already
    computes on another device.
    """
    _keep_memory()
    with quiet_stderr():
        chosen = [] if choice == "cpu" else _gpus(choice, replicas, cluster)
        parts = 1 if chosen else replicas or 1
        try:
            _configure(chosen, parts)
        except RuntimeError:  # TensorFlow is initialised already: its settings are final
            cpus, used = (len(tf.config.list_logical_devices(kind)) for kind in ("CPU", "GPU"))
            if bool(used) != bool(chosen) or used < len(chosen) or cpus < parts:
                raise CharlstmError(
                    "this process already computes on another device", option="device"
                ) from None
        kind, count = ("GPU", len(chosen)) if chosen else ("CPU", parts)
        strategy = _strategy(kind, count, cluster, meet)
        tf.config.list_logical_devices()
    return Device(
        _name(chosen, parts, cluster),
        on_gpu=bool(chosen),
        bfloat16=not chosen and has_bfloat16(),
        replicas=cluster.size * count,
        cluster=cluster,
        strategy=strategy,
    )


def _gpus(choice: str, replicas: int | None, cluster: Cluster) -> list[Any]:
    """Return the GPUs to use; none if the choice is auto and there is none.

    Raises CharlstmError if there are too few.
    """
    gpus: list[Any] = tf.config.list_physical_devices("GPU")
    if choice == "gpu" and not gpus:
        problem, hint = no_gpu()
        raise CharlstmError(problem, f"{hint}, or use {{device}} cpu", option="device")
    own = cluster.share(gpus)
    if own and len(own) < (replicas or 1):
        seen = "1 GPU" if len(own) == 1 else f"{len(own)} GPUs"
        raise CharlstmError(f"TensorFlow sees {seen}", f"use {len(own)}", option="replicas")
    return own[:replicas]


def gpu_names() -> list[str]:
    """Return the names of all GPUs that TensorFlow sees."""
    return list(map(_gpu_name, tf.config.list_physical_devices("GPU")))


def _gpu_name(gpu: Any) -> str:
    name: str = tf.config.experimental.get_device_details(gpu).get("device_name", "unknown")
    return name


def _name(gpus: list[Any], parts: int, cluster: Cluster) -> str:
    """Describe a device, for example ``2 workers, each with CPU, 4 cores``."""
    name = f"CPU, {named_cores()}" + (f", {parts} replicas" if parts > 1 else "")
    if gpus:
        several = f"{len(gpus)} GPUs" if len(gpus) > 1 else "GPU"
        name = f"{several}, {_gpu_name(gpus[0])}"
    return f"{cluster.size} workers, each with {name}" if cluster.size > 1 else name


def _strategy(kind: str, count: int, cluster: Cluster, meet: Callable[[str], object]) -> Any:
    """Return the distribution strategy for so many devices of each worker of a cluster."""
    if cluster.size > 1:
        meet(f"{count} x {kind}")
        return join(cluster, count if kind == "GPU" else 0)
    if count > 1:
        return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(count)])
    return tf.distribute.get_strategy()


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
