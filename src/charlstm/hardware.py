"""The processor, and the cores and memory this process may use. Does not import TensorFlow."""

import contextlib
import math
import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
DRIVERS = Path("/proc/driver/nvidia/version"), Path("/dev/dxg")  # the second one on WSL


def usable_cores() -> int:
    """Return the number of cores this process may use, by CPU affinity and cgroup quota.

    ``taskset``, containers and cluster schedulers limit a process to fewer cores than exist.
    """
    return max(1, math.ceil(min(affinity(), _quota())))


def named_cores() -> str:
    """Return the number of usable cores in words, for example ``2 cores``."""
    return f"{usable_cores()} core{'s' if usable_cores() > 1 else ''}"


def affinity() -> int:
    """Return the number of cores in the CPU affinity of this process, as set by ``taskset``."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def usable_memory() -> int:
    """Return the memory this process may use, in bytes: the computer's, or less in a cgroup."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of version 2, and of version 1
            with contextlib.suppress(OSError, ValueError):  # ``max`` is no number
                limits.append(int((folder / name).read_text("ascii")))
    return min(limits)


def processor() -> str:
    """Return the name of the processor."""
    lines = _cpuinfo().splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def has_bfloat16() -> bool:
    """Return whether the processor has bfloat16 instructions; False if that is unknown."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpuinfo().split())


def has_gpu_driver() -> bool:
    """Return whether NVIDIA's driver is installed, so that only Python packages can be missing."""
    return any(path.exists() for path in DRIVERS)


def _quota() -> float:
    """Return the lowest CPU quota of the process's cgroup and its ancestors, in cores."""
    return min([math.inf, *map(_limit, _cgroups("cpu"))])


def _cgroups(controller: str) -> Iterator[Path]:
    """Yield the folders of the process's cgroup and its ancestors, of version 2 and 1."""
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_CGROUP.read_text("utf-8", "replace").splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = CGROUPS / controller if controllers else CGROUPS
            own = top / name.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def _limit(folder: Path) -> float:
    """Return the CPU quota of a cgroup (version 2 or 1) in cores; infinite without a limit."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (folder / "cpu.max").read_text("ascii").split()
        return math.inf if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (
            (folder / f"cpu.cfs_{name}_us").read_text("ascii") for name in ("quota", "period")
        )
        return int(limit) / int(period) if int(limit) > 0 else math.inf
    return math.inf


@cache
def _cpuinfo() -> str:
    """Return the contents of ``/proc/cpuinfo``; empty on systems other than Linux."""
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text("ascii", "replace")
    return ""
