"""Work on a stream in another thread, ahead of the program."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 1  # items that may wait; each takes some megabytes

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the function's value for each item, in their order.

    Only a function that releases Python's lock, as numpy's on large arrays do, gains by it.
    """
    with ThreadPoolExecutor(AHEAD) as threads:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(threads.submit(function, item))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
