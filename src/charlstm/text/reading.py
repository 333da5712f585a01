"""A text as a model reads it: its ids, and what the vocabulary does not have."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.text.lines import Lines
from charlstm.text.source import CodePoints, Ids, Reader, Text
from charlstm.text.vocabulary import Vocabulary, describe

LISTED = 8  # characters that are named of those that a model does not know


class Reading:
    """One reading of a text for a model: its ids, and what the vocabulary does not have."""

    def __init__(self, text: Text, vocabulary: Vocabulary, lines: Lines | None = None) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._lines = lines
        self._unseen: dict[str, int] = {}  # where each is first, from 1
        self.skipped = 0

    def ids(self) -> Iterator[Ids]:
        """Yield the ids in pieces, without characters that have none.

        Raises CharlstmError for a text that is not UTF-8.
        """
        position = 1
        for points in Reader(self._text, None).code_points():
            ids, known = self._vocabulary.look_up(points)
            if self._lines:
                self._lines.follow(points, known)
            if not known.all():
                self._note(points, np.flatnonzero(~known), position)
                ids = ids[known]
            position += len(points)
            yield ids

    def _note(self, points: CodePoints, unseen: NDArray[np.intp], position: int) -> None:
        self.skipped += len(unseen)
        distinct, first = np.unique(points[unseen], return_index=True)
        for point, where in sorted(zip(distinct, unseen[first], strict=True), key=lambda p: p[1]):
            self._unseen.setdefault(chr(point), position + int(where))

    def account(self, unknown: str) -> str:
        """Say what had to be left out of what was read; empty if nothing was.

        ``unknown`` is error or skip. Raises CharlstmError at error.
        """
        if not self.skipped:
            return ""
        first = islice(self._unseen.items(), LISTED)
        shown = ", ".join(f"{describe(c)} at character {at:,}" for c, at in first)
        if len(self._unseen) > LISTED:
            shown += f" and {len(self._unseen) - LISTED:,} others"
        listed = f"what the model has never seen: {shown}"
        if unknown == "error":
            raise CharlstmError(
                f"{self._text.name}: it has {listed}", "leave it out, or say {unknown} skip"
            )
        return f"{self._text.name}: left out {self.skipped:,} of {listed}"


def read_ids(text: Text, vocabulary: Vocabulary, unknown: str) -> tuple[NDArray[np.int32], str]:
    """Return all ids of a text, shape (N,), and what had to be left out of it.

    Raises CharlstmError for a text that is not UTF-8, or, at error, has unknown characters.
    """
    reading = Reading(text, vocabulary)
    ids = np.concatenate([np.zeros(0, np.int32), *reading.ids()], dtype=np.int32)
    return ids, reading.account(unknown)
