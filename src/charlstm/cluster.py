"""The processes that train together, read from the environment. Does not import TensorFlow."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, product
from typing import TypeVar

from charlstm.errors import CharlstmError

Item = TypeVar("Item")

# Braces are doubled, because hints have options in braces.
FORM = '{{"cluster": {{"worker": ["HOST:PORT", ...]}}, "task": {{"type": "worker", "index": 0}}}}'
TASKS = ("chief", "worker")  # those that train; the chief, if there is one, is the first worker

# Slurm tells no port, so one is derived from the numbers of job and step: all tasks get the same
# answer, and jobs on one host hardly ever do. These are below the ports that systems hand out.
FIRST_PORT, PORTS = 10_000, 19_997
PORTS_OF_JOB, PORTS_OF_STEP = 128, 16


@dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, as ``host:port``, and the index of this one.

    A worker is a process that trains. The first one is the chief, which alone writes files.
    ``separated`` means that each worker sees only the GPUs that are meant for it.
    """

    addresses: tuple[str, ...]
    index: int = 0
    separated: bool = True

    @property
    def size(self) -> int:
        """The number of workers."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the chief."""
        return self.index == 0

    def named(self, index: int) -> str:
        """Return a worker's number, from 1, and address: ``worker 2 (node7:12345)``."""
        return f"worker {index + 1} ({self.addresses[index]})"

    def share(self, gpus: list[Item]) -> list[Item]:
        """Return this worker's share of the GPUs that it sees.

        Workers on one host share the GPUs equally, unless each sees only its own.
        """
        here = [i for i, address in enumerate(self.addresses) if _host(address) == self._host]
        if self.separated or len(gpus) < len(here):
            return gpus
        each = len(gpus) // len(here)
        first = here.index(self.index) * each
        return gpus[first : first + each]

    @property
    def _host(self) -> str:
        return _host(self.addresses[self.index])


ALONE = Cluster(("localhost:0",))


def cluster_of(environment: Mapping[str, str]) -> Cluster:
    """Return the cluster that TF_CONFIG describes, or else the job step of Slurm, or else ALONE.

    Raises CharlstmError if a variable is invalid.
    """
    if environment.get("TF_CONFIG", "").strip():
        return _of_tf_config(environment["TF_CONFIG"])
    # Only srun sets these. The variables of the job are also set where there is a single process.
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return _of_slurm(environment)
    return ALONE


def _of_tf_config(text: str) -> Cluster:
    try:
        config = json.loads(text)
        jobs: dict[str, list[str]] = config.get("cluster", {})
        if not jobs:
            return ALONE
        task = config["task"]
        job, index = task["type"], int(task["index"])
        addresses = [str(address) for name in TASKS for address in jobs.get(name, [])]
        before = len(jobs.get("chief", [])) if job == "worker" else 0
        mine = jobs[job][index] if index >= 0 else None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise CharlstmError(
            "TF_CONFIG: names no cluster and task", f"set it to {FORM}, or unset it"
        ) from None
    others = sorted(jobs.keys() - set(TASKS))
    if others or mine is None or not all(":" in address for address in addresses):
        what = f"has a job named {others[0]}" if others else "has a task without an address"
        raise CharlstmError(f"TF_CONFIG: {what}", f"set it to {FORM}, or unset it")
    if len(set(addresses)) < len(addresses):
        raise CharlstmError("TF_CONFIG: names an address twice", "give each worker its own port")
    if len(addresses) == 1:
        return ALONE
    return Cluster(tuple(addresses), before + index, separated=False)


def _of_slurm(environment: Mapping[str, str]) -> Cluster:
    """Return the cluster of a job step: as many workers on each host as it has tasks there."""
    try:
        hosts = list(_expanded_hosts(environment["SLURM_STEP_NODELIST"]))
        tasks = list(_expanded_counts(environment["SLURM_STEP_TASKS_PER_NODE"]))
        node, task = int(environment["SLURM_NODEID"]), int(environment["SLURM_LOCALID"])
        number = PORTS_OF_JOB * int(environment["SLURM_JOB_ID"])
        number += PORTS_OF_STEP * int(environment["SLURM_STEP_ID"])
        first = FIRST_PORT + number % PORTS
        each = [
            [f"{host}:{first + i}" for i in range(count)]
            for host, count in zip(hosts, tasks, strict=True)
        ]
        mine = each[node][task]
    except (ValueError, KeyError, IndexError) as error:
        raise CharlstmError(
            f"the variables of this Slurm job step do not describe its tasks ({error})",
            "set TF_CONFIG instead, or unset SLURM_STEP_NUM_TASKS to train in this process alone",
        ) from None
    addresses = tuple(chain.from_iterable(each))
    # By host and not by SLURM_PROCID, whose order depends on srun's --distribution.
    bound = "SLURM_GPUS_PER_TASK" in environment
    return Cluster(addresses, addresses.index(mine), separated=bound)


def _expanded_hosts(text: str) -> Iterator[str]:
    """Yield the hosts of a Slurm list such as ``node[1-3,07],login``, in its order."""
    for name in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        # Odd pieces were in brackets.
        pieces = re.split(r"\[([^\]]*)\]", name)
        choices = [list(_numbers(p)) if i % 2 else [p] for i, p in enumerate(pieces)]
        yield from map("".join, product(*choices))


def _numbers(text: str) -> Iterator[str]:
    """Yield the numbers of a list such as ``1-3,07``, with their zeros: 1, 2, 3, 07."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            yield str(number).zfill(len(first))


def _expanded_counts(text: str) -> Iterator[int]:
    """Yield the numbers of a Slurm list such as ``2(x3),1``: 2, 2, 2, 1."""
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not found:
            raise ValueError(text)
        yield from [int(found[1])] * int(found[2] or 1)


def _host(address: str) -> str:
    return address.rpartition(":")[0]
