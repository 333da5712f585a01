"""The program of a worker process: it counts the characters of shards, and writes their ids.

Requests and answers are lines of JSON. An error ends the process; then the text is read again in a
single process, which says what is wrong with it.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from charlstm.text import shards
from charlstm.text.collection import Collection
from charlstm.text.counting import count
from charlstm.text.digest import Digest
from charlstm.text.source import keep_buffers
from charlstm.text.vocabulary import Vocabulary


def main() -> None:
    """Answer the requests on standard input."""
    keep_buffers()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        text = shards.from_json(request.pop("text"))
        answer = TASKS[request.pop("task")](text, **request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _digest(text: Collection) -> str:
    """Return the SHA-256 of a text."""
    digest = Digest()
    text.reader(digest=digest).read()
    return digest.hexdigest()


def _count(text: Collection) -> list[list[int]]:
    """Return the distinct code points of a text, and the number of occurrences of each."""
    counts = count(text.reader().code_points())
    present = np.flatnonzero(counts)
    return [present.tolist(), counts[present].tolist()]


def _write(text: Collection, path: str, offset: int, vocabulary: tuple[str, bool]) -> int:
    """Write the ids of a text into a file, from an offset on; return their number of bytes."""
    known = VOCABULARY(*vocabulary)
    with open(path, "r+b") as file:  # noqa: PTH123 - the same as Path.open
        file.seek(offset)
        file.writelines(known.ids(points).data for points in text.reader().code_points())
        return file.tell() - offset


VOCABULARY = cache(Vocabulary)  # keeps its table from one shard to the next
TASKS: dict[str, Callable[..., Any]] = {"digest": _digest, "count": _count, "write": _write}
