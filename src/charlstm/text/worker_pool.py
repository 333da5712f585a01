"""Worker processes, for what Python's lock keeps threads from doing side by side.

Not those of multiprocessing, which would run the script of a user of the Python interface again.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

from charlstm.text import worker

PROGRAM = f"import sys; sys.path[:] = sys.argv[1:]; from {worker.__name__} import main; main()"


class WorkerError(Exception):
    """A worker process could not be started, or ended without an answer."""


class WorkerPool:
    """Processes that answer requests, each of them one at a time."""

    def __init__(self, processes: list[Popen[bytes]]) -> None:
        self._idle: SimpleQueue[Popen[bytes]] = SimpleQueue()
        for process in processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(len(processes))

    def ask(self, task: str, **request: Any) -> Future[Any]:
        """Return the future answer to a request, whose result may raise WorkerError."""
        return self._threads.submit(self._ask, {"task": task, **request})

    def _ask(self, request: dict[str, Any]) -> Any:
        process = self._idle.get()
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())
        except (OSError, ValueError):
            raise WorkerError from None
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """Cancel the requests that no process has begun to answer, and wait for the others."""
        self._threads.shutdown(cancel_futures=True)


@contextlib.contextmanager
def worker_pool(count: int) -> Iterator[WorkerPool]:
    """Start worker processes, which are killed at the end.

    Raises WorkerError.
    """
    command = [sys.executable, "-I", "-c", PROGRAM, *sys.path]
    processes: list[Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            try:  # in a process group of its own, so that Ctrl+C reaches only this process
                process = Popen(  # noqa: S603 - a command of ours
                    command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, process_group=0
                )
            except OSError:
                raise WorkerError from None
            stack.callback(process.communicate)
            processes.append(process)
        pool = WorkerPool(processes)
        stack.callback(pool.close)
        for process in processes:
            stack.callback(process.kill)
        yield pool
