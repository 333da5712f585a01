"""The program of a process that encodes shards of a text: it counts characters and writes ids.

Requests and answers are lines of JSON. An error of the text ends the process; whoever asked then
encodes the text without it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from charlstm import files
from charlstm.text.counting import count
from charlstm.text.digest import Checksum
from charlstm.text.shards import from_json
from charlstm.text.source import CodePoints, keep_buffers
from charlstm.text.vocabulary import Vocabulary


def main() -> None:
    """Answer the requests on standard input."""
    keep_buffers()
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(_answer(**json.loads(line))) + "\n")
        sys.stdout.flush()


def _answer(task: str, shard: dict[str, Any], **request: Any) -> dict[str, Any]:
    """Return the result of a task, and the checksum of the shard; or the number of an OSError."""
    checksum = Checksum()
    points = from_json(shard).reader(digest=checksum.update).code_points()
    try:
        result = TASKS[task](points, **request)
    except OSError as error:
        return {"errno": error.errno}
    return {"checksum": checksum.value, "result": result}


def _count(chunks: Iterator[CodePoints]) -> list[list[int]]:
    """Return the distinct code points of a shard, and the number of occurrences of each."""
    counts = count(chunks)
    present = np.flatnonzero(counts)
    return [present.tolist(), counts[present].tolist()]


def _write(
    chunks: Iterator[CodePoints], path: str, offset: int, vocabulary: tuple[str, bool]
) -> None:
    """Write the ids of a shard into a file, from an offset on."""
    known = VOCABULARY(*vocabulary)
    files.write_at(Path(path), offset, (known.ids(points).data for points in chunks))


VOCABULARY = cache(Vocabulary)  # keeps its table from one shard to the next
TASKS: dict[str, Callable[..., Any]] = {"count": _count, "write": _write}
