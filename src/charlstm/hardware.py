"""The processor, and how much of it this process may use. Knows no TensorFlow."""

import contextlib
import math
import os
import platform
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may use, by its affinity and its cgroup's quota.

    ``taskset``, containers and schedulers of clusters give a process fewer than there are.
    """
    return max(1, math.ceil(min(affinity(), _quota())))


def named_cores() -> str:
    """Return how many cores there are in words, for example ``2 cores``."""
    return f"{usable_cores()} core{'s' if usable_cores() > 1 else ''}"


def affinity() -> int:
    """Return how many cores this process may run on, as ``taskset`` sets them."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def processor() -> str:
    """Return the name of the processor."""
    lines = _cpuinfo().splitlines()
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 numbers; where nothing tells, it does not."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpuinfo().split())


def _quota() -> float:
    """Return how many cores' time the process's cgroup and those above it have, at least."""
    limits = [math.inf]
    with contextlib.suppress(OSError, ValueError):
        for line in OWN_CGROUP.read_text("utf-8", "replace").splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = CGROUPS / "cpu" if controllers else CGROUPS
            own = top / name.lstrip("/")
            limits += [
                _limit(folder) for folder in (own, *own.parents) if folder.is_relative_to(top)
            ]
    return min(limits)


def _limit(folder: Path) -> float:
    """Return how many cores' time a cgroup has, of version 2 or 1; infinite without a limit."""
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
    """Return what Linux tells about the processor; elsewhere, nothing."""
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text("ascii", "replace")
    return ""
