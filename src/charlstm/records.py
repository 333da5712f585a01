"""Draw whole records with a model that was trained on records, many side by side.

Knows no command line.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import compress, count

import numpy as np
from numpy.typing import NDArray

from charlstm.drawing import Filters
from charlstm.errors import CharlstmError
from charlstm.run.weights import Checkpoint
from charlstm.sampling import Drawn, Sampler
from charlstm.text.fingerprints import Fingerprints, are_in, fingerprints
from charlstm.text.records import Records

SIDE_BY_SIDE = 256  # more are hardly faster
HOPELESS = 10_000  # records in a row of which none is wanted: then there are no more


@dataclass(frozen=True)
class Wanted:
    """Which records are wanted: ``count`` of them, each of at most ``longest`` characters.

    ``unique``: none twice. ``novel``: none that is in ``index``, the sorted fingerprints of the
    records of the training text, if they are known.
    """

    count: int
    longest: int
    unique: bool = False
    novel: bool = False
    index: Fingerprints | None = None


@dataclass
class Tally:
    """How many records were drawn, and how many of them were what; all count while they are drawn.

    Those that are ``too_long`` are neither unique nor novel. ``novel`` is None if the records of
    the training text are not known. ``given`` were as wanted.
    """

    drawn: int = 0
    given: int = 0
    unique: int = 0
    novel: int | None = None
    too_long: int = 0


@dataclass(frozen=True)
class Record:
    """A record that was drawn: its ids, without its separator, and nats, with it."""

    ids: NDArray[np.int32]
    nats: float
    novel: bool | None = None


class RecordSampler:
    """Draws records of a model, each after the same prime, which is part of it.

    Text i of a Sampler draws one record after another. Records are in the order in which they
    begin, so that short ones, which end sooner, do not come first. A seed gives the same records,
    and from SIDE_BY_SIDE on, more of them begin with the same ones.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prime: NDArray[np.int32],
        wanted: Wanted,
        *,
        on_gpu: bool,
        filters: Filters | None = None,
    ) -> None:
        limit = wanted.longest - len(prime)
        if limit < 0:
            raise CharlstmError(
                f"the prime has {len(prime):,} characters, the records at most {wanted.longest:,}",
                "allow more",
                option="max_length",
            )
        self._prime = prime
        self._wanted = wanted
        vocabulary = checkpoint.vocabulary
        self._separator = vocabulary.encode(checkpoint.separator).astype(vocabulary.id_dtype)
        self._samples = min(wanted.count, SIDE_BY_SIDE)
        self._sampler = Sampler(
            checkpoint, on_gpu=on_gpu, samples=self._samples, filters=filters, limit=limit
        )
        self._seen: set[bytes] = set()
        self.tally = Tally(novel=None if wanted.index is None else 0)

    def draw(self, *, temperature: float, seed: int) -> Iterator[list[Record]]:
        """Yield wanted records, as many as are complete, until there are enough.

        It ends early if none of the last HOPELESS records was wanted.
        """
        self._sampler.begin(self._prime[:0], seed=seed)
        self._sampler.read(self._prime)
        self._sampler.restart_here()
        useless = 0
        for complete in self._complete(temperature):
            given = []
            for record in self._judged(complete):
                useless = 0 if record else useless + 1
                given += [record] if record else []
                if self.tally.given == self._wanted.count:
                    break
            yield given
            if self.tally.given == self._wanted.count or useless >= HOPELESS:
                return

    def _complete(self, temperature: float) -> Iterator[list[tuple[NDArray[np.int32], float]]]:
        """Yield complete records, in the order in which they began: ids and nats."""
        order = _Order(self._samples)
        for piece in self._sampler.write(np.inf, temperature=temperature):
            yield order.after(piece)

    def _judged(self, complete: list[tuple[NDArray[np.int32], float]]) -> Iterator[Record | None]:
        """Count records; yield those that are wanted, and None for others."""
        ended = [self._ends(ids) for ids, _ in complete]
        novel = iter(self._novel([*compress((ids for ids, _ in complete), ended)]))
        for (ids, nats), ends in zip(complete, ended, strict=True):
            self.tally.drawn += 1
            if not ends:
                self.tally.too_long += 1
                yield None
                continue
            whole = np.concatenate([self._prime, ids[: len(ids) - len(self._separator)]])
            record = Record(whole, nats, next(novel))
            key = whole.tobytes()
            repeated = key in self._seen
            self._seen.add(key)
            self.tally.unique += not repeated
            if self.tally.novel is not None:
                self.tally.novel += bool(record.novel)
            unwanted = (self._wanted.unique and repeated) or (
                self._wanted.novel and not record.novel
            )
            self.tally.given += not unwanted
            yield None if unwanted else record

    def _ends(self, ids: NDArray[np.int32]) -> bool:
        return bool(np.array_equal(ids[-len(self._separator) :], self._separator))

    def _novel(self, ended: list[NDArray[np.int32]]) -> list[bool] | list[None]:
        """Return for records of drawn ids whether the training text lacks them, if it is known."""
        if self._wanted.index is None or not ended:
            return [None] * len(ended)
        whole = [np.concatenate([self._prime, ids]) for ids in ended]
        ends = np.cumsum([len(ids) for ids in whole])
        starts = np.concatenate([[0], ends[:-1]])
        joined = np.concatenate(whole).astype(self._separator.dtype)
        found = are_in(
            self._wanted.index, fingerprints(Records(joined, self._separator, starts, ends))
        )
        return [not one for one in found.tolist()]


@dataclass
class _Open:
    """A record that is being drawn."""

    number: int
    ids: list[NDArray[np.int32]] = field(default_factory=list)
    nats: float = 0.0


class _Order:
    """Puts the records of several texts in the order in which they begin."""

    def __init__(self, samples: int) -> None:
        self._numbers = count()
        self._open = [_Open(next(self._numbers)) for _ in range(samples)]
        self._waiting: dict[int, tuple[NDArray[np.int32], float]] = {}
        self._next = 0

    def after(self, piece: Drawn) -> list[tuple[NDArray[np.int32], float]]:
        """Take the next characters of each text; return the records whose turn it is."""
        starts = [0] * len(self._open)
        # Sorted by time, then by text.
        for time, text in np.argwhere(piece.ends.T).tolist():
            self._take(piece, text, slice(starts[text], time + 1))
            ended = self._open[text]
            self._waiting[ended.number] = np.concatenate(ended.ids), ended.nats
            self._open[text] = _Open(next(self._numbers))
            starts[text] = time + 1
        for text, start in enumerate(starts):
            self._take(piece, text, slice(start, None))
        return [*self._due()]

    def _take(self, piece: Drawn, text: int, span: slice) -> None:
        record = self._open[text]
        record.ids.append(piece.ids[text, span])
        record.nats += float(piece.nats[text, span].sum())

    def _due(self) -> Iterator[tuple[NDArray[np.int32], float]]:
        while self._next in self._waiting:
            yield self._waiting.pop(self._next)
            self._next += 1
