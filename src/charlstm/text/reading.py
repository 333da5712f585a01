"""Read a text for a model: its ids, and its characters outside the vocabulary."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.text.lines import Lines
from charlstm.text.source import CodePoints, Ids, Reader, Text
from charlstm.text.vocabulary import Vocabulary, describe

LISTED = 8  # unknown characters that a message names


class Reading:
    """One pass over a text: its ids, and its characters outside the vocabulary."""

    def __init__(self, text: Text, vocabulary: Vocabulary, lines: Lines | None = None) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._lines = lines
        self._unseen: dict[str, int] = {}  # character -> first position, from 1
        self.skipped = 0

    def ids(self) -> Iterator[Ids]:
        """Yield the ids in chunks, without unknown characters.

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

    def note_or_error(self, unknown: str) -> str:
        """Return a note on the unknown characters that were skipped; empty if there were none.

        ``unknown`` is error or skip. Raises CharlstmError if there were any and it is error.
        """
        if not self.skipped:
            return ""
        first = islice(self._unseen.items(), LISTED)
        shown = ", ".join(f"{describe(c)} at character {at:,}" for c, at in first)
        if len(self._unseen) > LISTED:
            shown += f" and {len(self._unseen) - LISTED:,} others"
        listed = f"outside the vocabulary: {shown}"
        if unknown == "error":
            raise CharlstmError(
                f"{self._text.name}: has characters {listed}", "remove them, or use {unknown} skip"
            )
        characters = "character" if self.skipped == 1 else "characters"
        return f"{self._text.name}: skipped {self.skipped:,} {characters} {listed}"


def read_ids(text: Text, vocabulary: Vocabulary, unknown: str) -> tuple[NDArray[np.int32], str]:
    """Return all ids of a text, shape (N,), and a note on the characters that were skipped.

    Raises CharlstmError for a text that is not UTF-8, or, if ``unknown`` is error, for one with
    unknown characters.
    """
    reading = Reading(text, vocabulary)
    ids = np.concatenate([np.zeros(0, np.int32), *reading.ids()], dtype=np.int32)
    return ids, reading.note_or_error(unknown)
