"""The workers of a cluster meet before TensorFlow connects them. Does not import TensorFlow.

TensorFlow would wait for a missing worker forever, and its wait cannot be interrupted.
"""

import contextlib
import json
import socket
import time
from typing import Any

from charlstm.cluster import Cluster
from charlstm.errors import CharlstmError

PAUSE = 0.2  # seconds between attempts to reach the chief
ANSWER = 60.0  # seconds to wait for the chief's answer beyond the timeout
STRANGER = 10.0  # seconds in which a worker tells what it brought
Brought = dict[str, Any]


def meet(cluster: Cluster, brought: Brought, timeout: float) -> None:
    """Wait until all workers have come, and compare what they brought: values by name.

    Raises CharlstmError, in every worker, if one does not come within ``timeout`` seconds, or if
    one brought something else than the chief.
    """
    end = time.monotonic() + timeout
    brought = json.loads(json.dumps(brought))  # what other workers tell comes as JSON, too
    with _listening(cluster) as server:
        if cluster.is_chief:
            _receive(server, cluster, brought, end)
        else:
            _go(cluster, brought, end)


def _listening(cluster: Cluster) -> socket.socket:
    """Listen on this worker's port, where TensorFlow will listen later.

    Raises CharlstmError if that is not possible.
    """
    address = cluster.addresses[cluster.index]
    try:
        return socket.create_server(("", int(address.rpartition(":")[2])))
    except (OSError, ValueError, OverflowError) as error:
        raise CharlstmError(
            f"{cluster.named(cluster.index)} cannot listen on its port: {error}",
            "use another port, or end the program that uses it",
        ) from None


def _receive(server: socket.socket, cluster: Cluster, brought: Brought, end: float) -> None:
    """Wait for the other workers, compare, and tell all of them the result."""
    guests: dict[int, socket.socket] = {}
    every = {0: brought}
    with contextlib.ExitStack() as stack:
        while len(every) < cluster.size and (left := end - time.monotonic()) > 0:
            server.settimeout(left)
            # Strangers, and the timeout.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                guest, _ = server.accept()
                stack.enter_context(guest)
                guest.settimeout(STRANGER)
                told = json.loads(guest.makefile().readline())
                index = 1 + range(1, cluster.size).index(told["index"])
                if index in guests:  # it was started again, or another one has the same index
                    twice = f"{cluster.named(index)} has come twice"
                    _answer(guests[index], (twice, "give each worker its own index"))
                guests[index], every[index] = guest, dict(told["brought"])
        problem = _problem(cluster, every)
        for guest in guests.values():
            _answer(guest, problem)
    if problem:
        raise CharlstmError(*problem)


def _answer(guest: socket.socket, problem: tuple[str, str] | None) -> None:
    with contextlib.suppress(OSError):  # it has ended
        guest.sendall(json.dumps(problem).encode() + b"\n")


def _go(cluster: Cluster, brought: Brought, end: float) -> None:
    """Tell the chief what this worker brought, and wait for the result."""
    host, _, port = cluster.addresses[0].rpartition(":")
    told = json.dumps({"index": cluster.index, "brought": brought}).encode() + b"\n"
    while (left := end - time.monotonic()) > 0:
        try:
            with socket.create_connection((host, int(port)), timeout=left) as chief:
                chief.sendall(told)
                chief.settimeout(end - time.monotonic() + ANSWER)
                problem = json.loads(chief.makefile().readline())
        except (OSError, ValueError):  # not there yet
            time.sleep(PAUSE)
            continue
        if problem:
            raise CharlstmError(*problem)
        return
    raise CharlstmError(*_missing(cluster, 0))


def _problem(cluster: Cluster, every: dict[int, Brought]) -> tuple[str, str] | None:
    """Return what is wrong and what to do, about the first worker that is missing or differs."""
    for index in range(cluster.size):
        if index not in every:
            return _missing(cluster, index)
        for name in sorted(every[0].keys() | every[index].keys()):
            ours, its = (one.get(name, "the default") for one in (every[0], every[index]))
            if ours != its:
                return (
                    f"{cluster.named(index)}: its {name} is {its}, but that of worker 1 is {ours}",
                    "start all workers with the same program and options",
                )
    return None


def _missing(cluster: Cluster, index: int) -> tuple[str, str]:
    return (
        f"{cluster.named(index)} has not come",
        "start all workers, or allow more time with {start_timeout}",
    )
