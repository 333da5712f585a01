"""Divide a large text into shards, which worker processes encode side by side."""

import contextlib
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from charlstm.text.collection import Collection, Input, Source
from charlstm.text.detection import START
from charlstm.text.source import UTF8

MARK_BYTES = 3  # of a byte order mark
CONTINUATION = range(0x80, 0xC0)  # the bytes of a character of UTF-8 after its first
MOST_CONTINUATION = 3


def divide(text: Input, shard_bytes: int) -> list[Collection]:
    """Return the shards of a text: read one after the other, they give its code points.

    A shard has ``shard_bytes`` or a few KiB more. It begins with a character, in the file where the
    shard before it ends, or at the end of that file, so that ``join`` is never between two shards.
    The end of a text of records is in the last shard as a whole. There are no shards of a text that
    is not UTF-8, is compressed, or is not in files.

    Raises CharlstmError for a file that cannot be read.
    """
    if not isinstance(text, Collection) or text.encoding != UTF8:
        return []
    left = text.stamp()[0]  # bytes that are in no shard yet
    end_bytes = len(text.end.encode()) + MARK_BYTES * len(text.sources)
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
                stop = _next_character(opened.stream, start + least)
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


def _next_character(stream: BinaryIO, offset: int) -> int:
    """Return the offset of the first character that begins at ``offset`` or after it."""
    stream.seek(offset)
    following = stream.read(MOST_CONTINUATION)
    continuing = takewhile(CONTINUATION.__contains__, following)
    return offset + len([*continuing])


def size_of(shard: Collection) -> int:
    """Return the number of bytes in a shard."""
    return sum(len(source.byte_range or ()) for source in shard.sources)


def to_json(text: Collection) -> dict[str, Any]:
    """Return a shard, or a text in UTF-8, as data for JSON."""
    ranges = [(source.path, source.byte_range) for source in text.sources]
    sources = [[str(path), *((r.start, r.stop) if r is not None else ())] for path, r in ranges]
    return {"sources": sources, "join": text.join, "end": text.end}


def from_json(data: dict[str, Any]) -> Collection:
    """Return what ``to_json`` was given."""
    sources = tuple(
        Source(path, Path(path), byte_range=range(*bounds) if bounds else None)
        for path, *bounds in data["sources"]
    )
    return Collection(sources, data["join"], end=data["end"])
