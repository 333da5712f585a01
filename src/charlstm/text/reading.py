"""Read a text for a model: its ids, and its characters outside the vocabulary."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.text.lines import Lines
from charlstm.text.source import CodePoints, Ids, Reader, Text
from charlstm.text.vocabulary import Vocabulary, describe

FEWEST = 2  # characters to score: one as context, one to predict
LISTED = 8  # unknown characters that a message names


class Reading:
    """One pass over a text: its ids, and its characters outside the vocabulary."""

    def __init__(self, text: Text, vocabulary: Vocabulary, lines: Lines | None = None) -> None:
        self._text = text
        self._vocabulary = vocabulary
        self._lines = lines
        self._unseen: dict[str, int] = {}  # character -> first position, from 1
        self.unseen = 0

    def ids(self) -> Iterator[Ids]:
        """Yield the ids in chunks, without unknown characters unless they have an id.

        Raises CharlstmError for a text that is not UTF-8.
        """
        position = 1
        for points in Reader(self._text, None).code_points():
            ids, known = self._vocabulary.look_up(points)
            if not known.all():
                self._note(points, np.flatnonzero(~known), position)
                if self._vocabulary.has_unknown:
                    known[:] = True
                ids = ids[known]
            if self._lines:
                self._lines.follow(points, known)
            position += len(points)
            yield ids

    def _note(self, points: CodePoints, unseen: NDArray[np.intp], position: int) -> None:
        self.unseen += len(unseen)
        distinct, first = np.unique(points[unseen], return_index=True)
        for point, where in sorted(zip(distinct, unseen[first], strict=True), key=lambda p: p[1]):
            self._unseen.setdefault(chr(point), position + int(where))

    @property
    def skipped(self) -> int:
        """The number of characters outside the vocabulary that were skipped."""
        return 0 if self._vocabulary.has_unknown else self.unseen

    def note_or_error(self, unknown: str) -> str:
        """Return a note on the characters outside the vocabulary; empty if there were none.

        ``unknown`` is error or skip. Raises CharlstmError if there were any without an id, and it
        is error.
        """
        if not self.unseen:
            return ""
        first = islice(self._unseen.items(), LISTED)
        shown = ", ".join(f"{describe(c)} at character {at:,}" for c, at in first)
        if len(self._unseen) > LISTED:
            shown += f" and {len(self._unseen) - LISTED:,} others"
        listed = f"outside the vocabulary: {shown}"
        characters = "character" if self.unseen == 1 else "characters"
        if self._vocabulary.has_unknown:
            return f"{self._text.name}: {self.unseen:,} {characters} read as U+FFFD, {listed}"
        if unknown == "error":
            raise CharlstmError(
                f"{self._text.name}: has characters {listed}", "remove them, or use {unknown} skip"
            )
        return f"{self._text.name}: skipped {self.unseen:,} {characters} {listed}"


def read_ids(text: Text, vocabulary: Vocabulary, unknown: str) -> tuple[NDArray[np.int32], str]:
    """Return all ids of a text, shape (N,), and a note on the characters that were skipped.

    Raises CharlstmError for a text that is not UTF-8, or, if ``unknown`` is error, for one with
    unknown characters.
    """
    reading = Reading(text, vocabulary)
    ids = np.concatenate([np.zeros(0, np.int32), *reading.ids()], dtype=np.int32)
    return ids, reading.note_or_error(unknown)


def check_length(name: str, count: int) -> None:
    """Raise CharlstmError if a text is too short to be scored."""
    if count < FEWEST:
        raise CharlstmError(f"{name}: scoring needs at least {FEWEST} characters")
