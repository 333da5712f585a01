"""Score a text: measure how well a model predicts it, in total, per line and per character.

A text can be larger than memory, because its ids go to a temporary file. Knows no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.inference import ScoreOptions
from charlstm.run.weights import Checkpoint
from charlstm.text.lines import Lines
from charlstm.text.reading import Reading
from charlstm.text.records import Records, find_records
from charlstm.text.source import Ids, Text
from charlstm.text.temporary import mapped_ids, temporary_file, write_ids

if TYPE_CHECKING:  # imports TensorFlow, so at run time only after the text has been read
    from charlstm.evaluation import Division, Evaluation, Prediction

MOST_DETAILED = 200_000  # characters with details: the most that a page can show
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
    ``lines`` has a score per line, line end included, if ``per_line`` was set; ``records`` has each
    record, without its separator, and its score, separator included, if ``per_record`` was set.
    """

    whole: Evaluation
    skipped: int = 0
    unknown: int = 0
    note: str = ""
    lines: list[Evaluation] = field(default_factory=list)
    records: list[tuple[str, Evaluation]] = field(default_factory=list)
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

    Every lane but the first starts without the characters before it. With ``reset``, each line is a
    lane, and its first character is predicted from a newline; so is each record, if the model was
    trained on records. If ``guesses`` is not 0, the score has details, with that number of most
    likely characters at each position; the text can then have at most MOST_DETAILED characters.
    ``progress`` is called with the total number of characters and the number of newly scored ones.

    Raises CharlstmError for a text that cannot be scored, or if the device has too little memory.
    """
    _check(options, checkpoint)
    lines = Lines() if options.per_line or options.reset else None
    reading = Reading(text, checkpoint.vocabulary, lines)
    with temporary_file() as file:
        write_ids(reading, file, _separator(checkpoint))
        note = reading.note_or_error(options.unknown)
        ids = mapped_ids(text.name, file, checkpoint.vocabulary.id_dtype)
        parts = _parts(text.name, ids, lines, checkpoint)
        lanes = _division(ids, parts, checkpoint, options)
        per_part = _PerPart(parts, lanes) if options.per_line or options.per_record else None
        details = _details(text.name, ids, guesses := min(guesses, len(checkpoint.vocabulary)))
        nats = 0.0
        for prediction in _predictions(checkpoint, lanes, guesses, options):
            nats += float(prediction.nats.sum())
            if per_part:
                per_part.add(prediction)
            if details:
                _add(details, prediction)
            progress(lanes.targets, sum(count for _, _, count in prediction.spans))
        rows = _rows(parts, per_part.scores(), checkpoint) if per_part else {}
    counts = reading.skipped, reading.unseen - reading.skipped
    return Score(lanes.evaluation(nats), *counts, note, details=details, **rows)


def _check(options: ScoreOptions, checkpoint: Checkpoint) -> None:
    """Refuse options that do not suit the model.

    Raises CharlstmError.
    """
    if checkpoint.separator:
        name = next((name for name in ("per_line", "reset") if getattr(options, name)), None)
        if name:
            raise CharlstmError(
                "the model was trained on records, each of which is scored by itself",
                "use {per_record} instead",
                option=name,
            )
    elif options.per_record:
        raise CharlstmError(
            "the model was not trained on records", "use {per_line} {reset}", option="per_record"
        )
    elif options.reset and "\n" not in checkpoint.vocabulary.characters:
        raise CharlstmError("the model knows no line ends", "leave it out", option="reset")


def _parts(name: str, ids: Ids, lines: Lines | None, checkpoint: Checkpoint) -> Records:
    """Return the records of a text, or its lines, or the whole text.

    Raises CharlstmError if there should be records, and there are none.
    """
    if checkpoint.separator:
        records = find_records(ids, _separator(checkpoint))
        if not len(records.starts):
            raise CharlstmError(f"{name}: has no records")
        return records
    starts = lines.starts() if lines else np.zeros(1, np.intp)
    newline = ids[:0]
    if "\n" in checkpoint.vocabulary.characters:
        newline = checkpoint.vocabulary.encode("\n").astype(ids.dtype)
    return Records(ids, newline, starts, np.append(starts[1:], len(ids)))


def _separator(checkpoint: Checkpoint) -> Ids:
    vocabulary = checkpoint.vocabulary
    return vocabulary.encode(checkpoint.separator).astype(vocabulary.id_dtype)


def _division(ids: Ids, parts: Records, checkpoint: Checkpoint, options: ScoreOptions) -> Division:
    """Return how a text is divided into lanes."""
    from charlstm.evaluation import default_lanes, into_lanes, into_records

    if checkpoint.separator or options.reset:
        return into_records(parts, options.batch_size)
    return into_lanes(ids, default_lanes(len(ids), options.batch_size or 1))


def _rows(parts: Records, scores: list[Evaluation], checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the field of Score for the scores of lines, or of records."""
    if not checkpoint.separator:
        return {"lines": scores}
    ends = parts.ends - len(parts.separator)
    spans = zip(parts.starts.tolist(), ends.tolist(), strict=True)
    texts = [checkpoint.vocabulary.decode(parts.ids[start:end]) for start, end in spans]
    return {"records": [*zip(texts, scores, strict=True)]}


def _predictions(
    checkpoint: Checkpoint, lanes: Division, guesses: int, options: ScoreOptions
) -> Iterator[Prediction]:
    """Yield the predictions for each window of a text.

    Raises CharlstmError if the device has too little memory.
    """
    from charlstm.adaptation import Adaptation
    from charlstm.evaluation import predict_lanes
    from charlstm.network.device import memory_errors, select_device
    from charlstm.network.model import build_model

    size, count = len(checkpoint.vocabulary), lanes.side_by_side
    on_gpu = select_device(options.device).on_gpu
    # Logits and gate values per column of a window.
    numbers = count * (size + checkpoint.model.kind.gates * checkpoint.model.units)
    most = options.adapt_segment if options.adapt else max(1, WINDOW_NUMBERS // numbers)
    length = min(most, lanes.longest)
    with memory_errors(f"{{batch_size}} (now {count} lanes)"):
        model = build_model(checkpoint.model, size, batch_size=count, on_gpu=on_gpu)
        model.set_arrays(checkpoint.weights)
        predict = Adaptation(model, options).predict if options.adapt else None
        windows = {"sequence_length": length, "guesses": guesses}
        yield from predict_lanes(model, lanes.groups, predict=predict, **windows)


class _PerPart:
    """Accumulates the score of each line or record of a text, with what ends it."""

    def __init__(self, parts: Records, lanes: Division) -> None:
        self._starts = parts.starts
        self._counts = parts.lengths
        # The first character of a text can be one that is not predicted.
        self._counts[np.flatnonzero(self._counts)[0]] -= self._counts.sum() - lanes.targets
        self._nats = np.zeros(len(parts.starts))

    def add(self, prediction: Prediction) -> None:
        """Add the nats of a window to its parts."""
        for row, first, count in prediction.spans:
            parts = np.searchsorted(self._starts, np.arange(first, first + count), "right") - 1
            np.add.at(self._nats, parts, prediction.nats[row, :count])

    def scores(self) -> list[Evaluation]:
        """Return the score of each part."""
        from charlstm.evaluation import Evaluation

        pairs = zip(self._nats, self._counts, strict=True)
        return [Evaluation(float(nats), int(count), 1) for nats, count in pairs]


def _details(name: str, ids: Ids, guesses: int) -> Details | None:
    """Return empty details for N characters; None if ``guesses`` is 0.

    Raises CharlstmError if the text is too long for details.
    """
    if not guesses:
        return None
    if len(ids) > MOST_DETAILED:
        raise CharlstmError(
            f"{name}: has {len(ids):,} characters, but a page can show at most {MOST_DETAILED:,}",
            "leave out {html}, or shorten the text",
        )
    shape = (len(ids), guesses)
    return Details(np.array(ids), np.zeros(len(ids)), np.zeros(shape, np.int32), np.zeros(shape))


def _add(details: Details, prediction: Prediction) -> None:
    """Copy the predictions of one window into the details."""
    for row, first, count in prediction.spans:
        span = slice(first, first + count)
        details.nats[span] = prediction.nats[row, :count]
        details.guesses[span] = prediction.guesses[row, :count]
        details.probabilities[span] = prediction.probabilities[row, :count]
