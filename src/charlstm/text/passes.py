"""The two passes over a text that encoding takes: one counts its characters, one writes its ids."""

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from itertools import accumulate
from typing import Any, BinaryIO, TypeVar

import numpy as np

from charlstm.hardware import usable_cores
from charlstm.text.collection import Collection, Input
from charlstm.text.counting import Counts, count
from charlstm.text.digest import Digest
from charlstm.text.shards import divide, size_of, to_json
from charlstm.text.source import Advance, keep_buffers
from charlstm.text.vocabulary import CODE_POINTS, Vocabulary
from charlstm.text.worker_pool import WorkerError, WorkerPool, worker_pool

LARGE = 2**28  # bytes of a text for which it is worth starting processes
SHARD_BYTES = 2**26
MOST_WORKERS = 8  # more would wait for the SHA-256, which one process computes
POLL_SECONDS = 0.1

T = TypeVar("T")


class Passes:
    """The passes over a text in this process.

    ``advance`` is called with the number of bytes read, in both passes.
    """

    def __init__(self, text: Input, advance: Advance | None) -> None:
        self._text = text
        self._advance = advance

    def count(self) -> tuple[Counts, str]:
        """Return the number of occurrences of each code point, and the SHA-256 of the text."""
        keep_buffers()
        digest = Digest()
        counts = count(self._text.reader(self._advance, digest).code_points())
        return counts, digest.hexdigest()

    def write(self, vocabulary: Vocabulary, file: BinaryIO) -> str:
        """Write the ids of the text into an open file; return the SHA-256 of the text."""
        digest = Digest()
        chunks = self._text.reader(self._advance, digest).code_points()
        file.writelines(vocabulary.ids(points).data for points in chunks)
        return digest.hexdigest()


class ParallelPasses(Passes):
    """The passes over a text in worker processes, each of which reads one shard at a time.

    The methods raise WorkerError if a process fails.
    """

    def __init__(
        self, text: Collection, advance: Advance | None, pool: WorkerPool, shards: list[Collection]
    ) -> None:
        super().__init__(text, advance)
        self._read = 0
        self._pool = pool
        self._whole = to_json(text)
        self._shards = [(to_json(shard), size_of(shard)) for shard in shards]
        self._lengths: list[int] = []  # of the shards, in characters

    def count(self) -> tuple[Counts, str]:
        """Return what ``Passes.count`` does."""
        digest = self._pool.ask("digest", text=self._whole)
        answers = [self._pool.ask("count", text=shard) for shard, _ in self._shards]
        totals = np.zeros(CODE_POINTS, np.int64)
        for answer, (_, size) in zip(answers, self._shards, strict=True):
            points, counts = self._result(answer)
            totals[points] += counts
            self._lengths.append(sum(counts))
            self._report(size)
        return totals, self._result(digest)

    def write(self, vocabulary: Vocabulary, file: BinaryIO) -> str:
        """Do what ``Passes.write`` does."""
        digest = self._pool.ask("digest", text=self._whole)
        ids = vocabulary.characters, vocabulary.has_unknown
        lengths = [length * vocabulary.id_dtype.itemsize for length in self._lengths]
        answers = [
            self._pool.ask("write", text=shard, path=file.name, offset=offset, vocabulary=ids)
            for (shard, _), offset in zip(self._shards, accumulate([0, *lengths[:-1]]), strict=True)
        ]
        for answer, length, (_, size) in zip(answers, lengths, self._shards, strict=True):
            if self._result(answer) != length:
                raise WorkerError
            os.fsync(file.fileno())  # while the workers go on, rather than all of it at the end
            self._report(size)
        sha256: str = self._result(digest)
        return sha256

    def rewind(self) -> None:
        """Take back what was reported as read."""
        self._report(-self._read)

    def _result(self, answer: Future[Any]) -> Any:
        """Wait for an answer; meanwhile, ``advance`` can interrupt by raising an exception."""
        while not wait([answer], POLL_SECONDS).done:
            self._report(0)
        return answer.result()

    def _report(self, size: int) -> None:
        self._read += size
        if self._advance:
            self._advance(size)


def in_passes(text: Input, advance: Advance | None, encode: Callable[[Passes], T]) -> T:
    """Return what ``encode`` makes of the passes over a text, in worker processes if it is large.

    If one of them fails, the text is encoded again in this process, which also says what is wrong
    with it.
    """
    large = text.stamp()[0] >= LARGE and usable_cores() > 1
    shards = divide(text, SHARD_BYTES) if large else []
    if isinstance(text, Collection) and len(shards) > 1:
        workers = min(usable_cores(), MOST_WORKERS)
        with contextlib.suppress(WorkerError), worker_pool(workers + 1) as pool:
            passes = ParallelPasses(text, advance, pool, shards)
            try:
                return encode(passes)
            except WorkerError:
                passes.rewind()
    return encode(Passes(text, advance))
