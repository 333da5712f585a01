"""Score a text: measure how well a model predicts it, in total, per line and per character.

A text can be larger than memory, because its ids go to a temporary file. Knows no terminal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from charlstm.config import ScoreOptions
from charlstm.errors import CharlstmError
from charlstm.run.weights import Checkpoint
from charlstm.text.lines import Lines
from charlstm.text.reading import Reading
from charlstm.text.source import Ids, Text

if TYPE_CHECKING:  # imports TensorFlow, so at run time only after the text has been read
    from charlstm.evaluation import Division, Evaluation, Prediction

FEWEST = 2  # characters: one as context, one to predict
MOST_DETAILED = 200_000  # characters with details: the most that a page can show
CHANGE_TMPDIR = "set TMPDIR to another folder"
WINDOW_NUMBERS = 2**24  # approximate number of logits and gate values per window, over all lanes


@dataclass(frozen=True)
class Details:
    """The predictions for each of N characters; the first is not predicted.

    ``ids`` (N,) are the characters and ``nats`` (N,) their surprisal. ``guesses`` (N, K) are the
    ids of the K most likely characters at each position, and ``probabilities`` (N, K) their
    probabilities.
    """

    ids: Ids
    nats: NDArray[np.float64]
    guesses: NDArray[np.int32]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """The score of a text; ``note`` describes the characters outside the vocabulary.

    They were either ``skipped`` or, by a model that has an id for them, read as ``unknown``.

    ``lines`` has a score per line, line end included, if ``per_line`` was set.
    """

    whole: Evaluation
    skipped: int = 0
    unknown: int = 0
    note: str = ""
    lines: list[Evaluation] = field(default_factory=list)
    details: Details | None = None

    @property
    def nats_per_char(self) -> float:
        """The loss in nats."""
        return self.whole.nats_per_char

    @property
    def bits_per_char(self) -> float:
        """The loss in bits."""
        return self.whole.bits_per_char


def score(
    checkpoint: Checkpoint,
    text: Text,
    options: ScoreOptions,
    *,
    guesses: int = 0,
    progress: Callable[[int, int], object] = lambda _total, _more: None,
) -> Score:
    """Return how well a model predicts each character but the first from those before it.

    Every lane but the first starts without the characters before it; with ``reset``, each line is a
    lane, and its first character is predicted from a newline. If ``guesses`` is not 0, the score
    has details, with that number of most likely characters at each position; the text can then have
    at most MOST_DETAILED characters. ``progress`` is called with the total number of characters and
    the number of newly scored ones.

    Raises CharlstmError for a text that cannot be scored, or if the device has too little memory.
    """
    read_lines = Lines() if options.per_line or options.reset else None
    reading = Reading(text, checkpoint.vocabulary, read_lines)
    with _temporary_file() as file:
        _write_ids(reading, file)
        note = reading.note_or_error(options.unknown)
        ids: Ids = _mapped_ids(text.name, file, checkpoint, detailed=bool(guesses))
        starts = read_lines.starts() if read_lines else np.zeros(1, np.intp)
        lanes = _division(ids, starts, checkpoint, options)
        lines = _Lines(starts, len(ids), lanes.targets) if options.per_line else None
        details = _details(ids, guesses := min(guesses, len(checkpoint.vocabulary)))
        nats = 0.0
        for prediction in _predictions(checkpoint, lanes, guesses, options.device):
            nats += float(prediction.nats.sum())
            if lines:
                lines.add(prediction)
            if details:
                _add(details, prediction)
            progress(lanes.targets, sum(count for _, _, count in prediction.spans))
    counts = reading.skipped, reading.unseen - reading.skipped
    return Score(lanes.evaluation(nats), *counts, note, lines.scores() if lines else [], details)


def _division(
    ids: Ids, starts: NDArray[np.intp], checkpoint: Checkpoint, options: ScoreOptions
) -> Division:
    """Return how a text with these line starts is divided into lanes.

    Raises CharlstmError if each line should be one, and the model knows no newlines.
    """
    from charlstm.evaluation import default_lanes, into_lanes, into_lines

    if not options.reset:
        return into_lanes(ids, default_lanes(len(ids), options.batch_size or 1))
    if "\n" not in checkpoint.vocabulary.characters:
        raise CharlstmError("the model knows no line ends", "leave it out", option="reset")
    newline = checkpoint.vocabulary.encode("\n").astype(ids.dtype)
    return into_lines(ids, starts, newline, options.batch_size)


def check_length(name: str, count: int) -> None:
    """Raise CharlstmError if a text is too short to be scored."""
    if count < FEWEST:
        raise CharlstmError(f"{name}: scoring needs at least {FEWEST} characters")


def _temporary_file() -> BinaryIO:
    """Return a temporary file for the ids of a text.

    Raises CharlstmError if it cannot be created.
    """
    try:
        return cast(BinaryIO, tempfile.TemporaryFile())
    except OSError as error:
        raise CharlstmError(
            f"no folder for temporary files: {error.strerror}", CHANGE_TMPDIR
        ) from None


def _write_ids(reading: Reading, file: BinaryIO) -> None:
    """Write the ids of a text to a file.

    Raises CharlstmError for a text that is not UTF-8, or if the disk is full.
    """
    try:
        file.writelines(ids.tobytes() for ids in reading.ids())
        file.flush()
    except OSError as error:
        raise CharlstmError(
            f"{tempfile.gettempdir()}: cannot store the encoded text: {error.strerror}",
            CHANGE_TMPDIR,
        ) from None


def _mapped_ids(name: str, file: BinaryIO, checkpoint: Checkpoint, *, detailed: bool) -> Ids:
    """Memory-map the ids in a file.

    Raises CharlstmError if the text is too short to be scored, or too long for details.
    """
    dtype = checkpoint.vocabulary.id_dtype
    count = file.tell() // dtype.itemsize
    check_length(name, count)
    if detailed and count > MOST_DETAILED:
        raise CharlstmError(
            f"{name}: has {count:,} characters, but a page can show at most {MOST_DETAILED:,}",
            "leave out {html}, or shorten the text",
        )
    return np.memmap(file, dtype, mode="r")


def _predictions(
    checkpoint: Checkpoint, lanes: Division, guesses: int, device: str
) -> Iterator[Prediction]:
    """Yield the predictions for each window of a text.

    Raises CharlstmError if the device has too little memory.
    """
    from charlstm.evaluation import predict_lanes
    from charlstm.network.device import memory_errors, select_device
    from charlstm.network.model import build_model

    size, count = len(checkpoint.vocabulary), lanes.side_by_side
    on_gpu = select_device(device).on_gpu
    # Logits and gate values per column of a window.
    numbers = count * (size + checkpoint.model.kind.gates * checkpoint.model.units)
    length = min(max(1, WINDOW_NUMBERS // numbers), lanes.longest)
    with memory_errors(f"{{batch_size}} (now {count} lanes)"):
        model = build_model(checkpoint.model, size, batch_size=count, on_gpu=on_gpu)
        model.set_arrays(checkpoint.weights)
        yield from predict_lanes(model, lanes.groups, sequence_length=length, guesses=guesses)


class _Lines:
    """Accumulates the score of each line of a text, line end included."""

    def __init__(self, starts: NDArray[np.intp], count: int, targets: int) -> None:
        self._starts = starts
        self._counts = np.diff(starts, append=count)
        if targets < count:  # the first character of the text is not predicted
            self._counts[np.flatnonzero(self._counts)[0]] -= 1
        self._nats = np.zeros(len(starts))

    def add(self, prediction: Prediction) -> None:
        """Add the nats of a window to its lines."""
        for row, first, count in prediction.spans:
            lines = np.searchsorted(self._starts, np.arange(first, first + count), "right") - 1
            np.add.at(self._nats, lines, prediction.nats[row, :count])

    def scores(self) -> list[Evaluation]:
        """Return the score of each line."""
        from charlstm.evaluation import Evaluation

        pairs = zip(self._nats, self._counts, strict=True)
        return [Evaluation(float(nats), int(count), 1) for nats, count in pairs]


def _details(ids: Ids, guesses: int) -> Details | None:
    """Return empty details for N characters; None if ``guesses`` is 0."""
    if not guesses:
        return None
    shape = (len(ids), guesses)
    return Details(np.array(ids), np.zeros(len(ids)), np.zeros(shape, np.int32), np.zeros(shape))


def _add(details: Details, prediction: Prediction) -> None:
    """Copy the predictions of one window into the details."""
    for row, first, count in prediction.spans:
        span = slice(first, first + count)
        details.nats[span] = prediction.nats[row, :count]
        details.guesses[span] = prediction.guesses[row, :count]
        details.probabilities[span] = prediction.probabilities[row, :count]
