"""Divide a large text into shards, which processes encode side by side."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from charlstm.text.collection import Collection, Input, Source
from charlstm.text.detection import START
from charlstm.text.source import UTF8

BOM_BYTES = 3
SMALL_FILE = 2**16  # bytes on average: to open each file once more is not worth it


def divide(text: Input, shard_bytes: int) -> list[Collection]:
    """Return the shards of a text: read one after the other, they give its code points.

    A shard has ``shard_bytes`` or a few KiB more. It begins with a character, in the file where the
    shard before it ends, or at the end of that file, so that ``join`` is never between two shards.
    The end of a text of records is in the last shard as a whole. There are no shards of a text that
    is not UTF-8, is compressed, is not in files or in very small ones.

    Raises CharlstmError for a file that cannot be read.
    """
    if not isinstance(text, Collection) or text.encoding != UTF8:
        return []
    left = text.stamp()[0]  # bytes that are in no shard yet
    if left < SMALL_FILE * len(text.sources):
        return []
    end_bytes = len(text.end.encode()) + BOM_BYTES * len(text.sources)
    shards: list[list[Source]] = [[]]
    room = shard_bytes
    for source in text.sources:
        opened = source.open(UTF8)
        with contextlib.closing(opened.file or opened.stream):
            if opened.is_compressed:
                return []
            start, size = 0, opened.stamp()[0]
            # The first bytes of a file stay together, since its encoding is detected from them.
            while start + (least := max(room, START)) < size and left - least > end_bytes:
                stop = opened.character_at(start + least)
                shards[-1].append(replace(source, byte_range=range(start, stop)))
                shards.append([])
                left -= stop - start
                start, room = stop, shard_bytes
        shards[-1].append(replace(source, byte_range=range(start, size)))
        left -= size - start
        room -= size - start
        if room <= 0 and left > end_bytes:
            shards.append([replace(source, byte_range=range(size, size))])
            room = shard_bytes
    *others, last = (replace(text, sources=tuple(sources), end="") for sources in shards)
    return [*others, replace(last, end=text.end)]


def size_of(shard: Collection) -> int:
    """Return the number of bytes in a shard."""
    return sum(len(source.byte_range or ()) for source in shard.sources)


def to_json(shard: Collection) -> dict[str, Any]:
    """Return a shard as data for JSON."""
    # Not /dev/stdin, which is another file in another process.
    ranges = [
        (os.path.realpath(s.path), s.byte_range) for s in shard.sources if s.byte_range is not None
    ]
    sources = [[path, bounds.start, bounds.stop] for path, bounds in ranges]
    return {"sources": sources, "join": shard.join, "end": shard.end}


def from_json(data: dict[str, Any]) -> Collection:
    """Return what ``to_json`` was given."""
    sources = tuple(
        Source(path, Path(path), byte_range=range(start, stop))
        for path, start, stop in data["sources"]
    )
    return Collection(sources, data["join"], end=data["end"])
