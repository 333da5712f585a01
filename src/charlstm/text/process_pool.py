"""Processes that encode shards of a text.

Not those of multiprocessing, which would run the script of a user of the Python interface again.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

from charlstm.text import encoding_process

PROGRAM = (
    f"import sys; sys.path[:] = sys.argv[1:]; from {encoding_process.__name__} import main; main()"
)


class ProcessError(Exception):
    """A process could not be started, ended without an answer, or read another text."""


class ProcessPool:
    """Processes that answer requests, each of them one at a time."""

    def __init__(self, count: int) -> None:
        self._processes: list[Popen[bytes]] = []
        self._idle: SimpleQueue[Popen[bytes]] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count)

    def start(self) -> None:
        """Start another process.

        Raises ProcessError if that fails.
        """
        if not sys.executable or getattr(sys, "frozen", False):  # a program that contains Python
            raise ProcessError
        try:  # in a process group of its own, so that Ctrl+C reaches only this process
            process = Popen(  # noqa: S603 - a command of ours
                [sys.executable, "-I", "-c", PROGRAM, *sys.path],
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                process_group=0,
            )
        except OSError:
            raise ProcessError from None
        self._processes.append(process)
        self._idle.put(process)

    def ask(self, task: str, shard: dict[str, Any], **request: Any) -> Future[dict[str, Any]]:
        """Return the future answer to a request, which raises ProcessError if there is none."""
        return self._threads.submit(self._ask, {"task": task, "shard": shard, **request})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._idle.get()
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            raise ProcessError from None
        finally:
            self._idle.put(process)
        return answer

    def kill(self) -> None:
        """Kill the processes, and wait for their end."""
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.communicate()


@contextlib.contextmanager
def process_pool(count: int) -> Iterator[ProcessPool]:
    """Start processes, which are killed at the end.

    Raises ProcessError if that fails.
    """
    pool = ProcessPool(count)
    try:
        for _ in range(count):
            pool.start()
        yield pool
    finally:
        pool.kill()
