"""Encode a text in two passes: one counts its characters, one writes their ids.

A large text is divided into shards, which processes encode side by side: decoding holds Python's
global interpreter lock, so that threads would take turns.
"""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import partial
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np

from charlstm.hardware import usable_cores
from charlstm.text.collection import Collection, Input
from charlstm.text.counting import Counts, count
from charlstm.text.digest import Checksum, Digest
from charlstm.text.process_pool import ProcessError, ProcessPool, process_pool
from charlstm.text.shards import divide, size_of, to_json
from charlstm.text.source import Advance, changed, keep_buffers
from charlstm.text.vocabulary import CODE_POINTS, Vocabulary

LARGE = 256_000_000  # bytes of a text for which it is worth starting processes
SHARD_BYTES = 2**26
MAX_PROCESSES = 8  # more would wait for the SHA-256, which this process computes
POLL_SECONDS = 0.1


class Encoder:
    """Encodes a text in this process: first ``count``, then ``write``.

    ``advance`` is called with the number of bytes read since the last call, in both passes: 0 to
    look for an interrupt, negative where the text is read again. After ``count``, ``sha256`` is
    that of the text.
    """

    def __init__(self, text: Input, advance: Advance | None) -> None:
        self._text = text
        self._advance = advance
        self.sha256 = ""

    def count(self) -> Counts:
        """Return the number of occurrences of each code point."""
        keep_buffers()
        digest = Digest()
        counts = count(self._text.reader(self._advance, digest.update).code_points())
        self.sha256 = digest.hexdigest()
        return counts

    def write(self, vocabulary: Vocabulary, file: BinaryIO) -> None:
        """Write the ids of the text into a new file.

        Raises CharlstmError if the text has changed, and OSError.
        """
        digest = Digest()
        chunks = self._text.reader(self._advance, digest.update).code_points()
        file.writelines(vocabulary.ids(points).data for points in chunks)
        if digest.hexdigest() != self.sha256:
            raise changed(self._text.name)


class ParallelEncoder(Encoder):
    """Encodes the shards of a text in other processes, and computes its SHA-256 meanwhile.

    If one of them fails or reads other bytes than this process, the text is encoded here, which
    also says what is wrong with it.
    """

    def __init__(
        self, text: Input, advance: Advance | None, shards: list[Collection], pool: ProcessPool
    ) -> None:
        super().__init__(text, advance)
        self._shards = shards
        self._described = list(map(to_json, shards))
        self._pool = pool
        self._reported = 0  # bytes of this pass
        self._checksums: list[int] = []
        self._lengths: list[int] = []  # of the shards, in characters

    def count(self) -> Counts:
        """Return what ``Encoder.count`` does."""
        try:
            return self._count()
        except ProcessError:
            self._give_up()
            return super().count()

    def write(self, vocabulary: Vocabulary, file: BinaryIO) -> None:
        """Do what ``Encoder.write`` does."""
        try:
            self._write(vocabulary, file)
        except ProcessError:
            self._give_up()
            super().write(vocabulary, file)

    def _count(self) -> Counts:
        answers = [self._pool.ask("count", shard) for shard in self._described]
        digest = Digest()
        for shard in self._shards:
            checksum = Checksum()
            shard.reader(self._report, partial(_update, digest, checksum)).read()
            self._checksums.append(checksum.value)
        totals = np.zeros(CODE_POINTS, np.int64)
        for points, counts in self._results(answers):
            totals[points] += counts
            self._lengths.append(sum(counts))
        self.sha256 = digest.hexdigest()
        self._reported = 0
        return totals

    def _write(self, vocabulary: Vocabulary, file: BinaryIO) -> None:
        if not self._lengths:
            raise ProcessError
        ids = vocabulary.characters, vocabulary.has_unknown
        lengths = [length * vocabulary.id_dtype.itemsize for length in self._lengths]
        answers = [
            self._pool.ask("write", shard, path=file.name, offset=offset, vocabulary=ids)
            for shard, offset in zip(self._described, accumulate([0, *lengths[:-1]]), strict=True)
        ]
        for _, shard in zip(self._results(answers), self._shards, strict=True):
            os.fsync(file.fileno())  # while the processes go on, rather than all of it at the end
            self._report(size_of(shard))

    def _results(self, answers: list[Future[Any]]) -> Iterator[Any]:
        """Yield the results of all shards, in order.

        Raises ProcessError, OSError if writing failed, and what ``advance`` raises to interrupt.
        """
        for future, checksum in zip(answers, self._checksums, strict=True):
            while not wait([future], POLL_SECONDS).done:
                self._report(0)
            answer = future.result()
            if "errno" in answer:
                raise OSError(answer["errno"], os.strerror(answer["errno"]))
            if answer["checksum"] != checksum:
                raise ProcessError
            yield answer["result"]

    def _give_up(self) -> None:
        """End the processes, and take back what this pass has reported."""
        self._pool.kill()
        self._lengths.clear()
        self._report(-self._reported)

    def _report(self, size: int) -> None:
        self._reported += size
        if self._advance:
            self._advance(size)


def _update(digest: Digest, checksum: Checksum, content: bytes) -> None:
    digest.update(content)
    checksum.update(content)


@contextlib.contextmanager
def encoder_of(text: Input, size: int, advance: Advance | None) -> Iterator[Encoder]:
    """Yield the encoder of a text of ``size`` bytes: a parallel one if it is large."""
    cores = min(usable_cores(), MAX_PROCESSES)
    shards = divide(text, SHARD_BYTES) if size >= LARGE and cores > 1 else []
    with contextlib.ExitStack() as stack:
        encoder = Encoder(text, advance)
        if len(shards) > 1:
            with contextlib.suppress(ProcessError):
                pool = stack.enter_context(process_pool(min(cores, len(shards))))
                encoder = ParallelEncoder(text, advance, shards, pool)
        yield encoder
