"""``charlstm score``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.core import ParameterSource

from charlstm.cli.interrupt import interruptible
from charlstm.cli.options import complete_file, options_of, record_of
from charlstm.cli.output import check_file, write_to
from charlstm.cli.progress import bar
from charlstm.cli.stream import write
from charlstm.config import ScoreConfig
from charlstm.errors import CharlstmError
from charlstm.history import bits_per_char

if TYPE_CHECKING:  # for real only when a command runs: numpy
    from charlstm.checkpoint import Checkpoint
    from charlstm.corpus import Ids
    from charlstm.evaluation import Evaluation, Prediction

FEWEST = 2  # characters: one to predict from, one to predict
PIECE = 1 << 20  # characters that are searched for line ends at a time
LONGEST_WINDOW = 512  # characters
WINDOW_NUMBERS = 2**24  # of logits and gates, about, in a window of all lanes


@click.command()
@click.argument(
    "arguments",
    nargs=-1,
    required=True,
    metavar="[CHECKPOINT] TEXT",
    shell_complete=complete_file,
)
@options_of(ScoreConfig)
@click.pass_context
def score(context: click.Context, /, arguments: tuple[str, ...], **values: Any) -> None:
    """Measure how well a model predicts a text.

    Every character but the first is predicted from all before it. TEXT is a file in UTF-8, or -
    for standard input. CHECKPOINT is the folder of a run or one weights file; without it, the
    newest run under checkpoints/.

    \b
    charlstm score held-out.txt
    charlstm score checkpoints/input held-out.txt --batch-size 32 --json
    charlstm score held-out.txt --html surprisal.html
    """
    if len(arguments) > 2:  # noqa: PLR2004 - as the usage says
        raise click.UsageError("Give a text, or a checkpoint and a text.")
    *checkpoint, text = arguments
    config = record_of(ScoreConfig, values)
    epoch_given = context.get_parameter_source("epoch") is not ParameterSource.DEFAULT

    from charlstm.runs import read_weights

    named = next(iter(checkpoint), None)
    weights, read = read_weights(named, config.epoch, epoch_given=epoch_given)
    if config.html:
        check_file(config.html, weights, text)
    click.echo(f"epoch {read.epoch} of {weights}", err=True)
    with tempfile.TemporaryFile() as file:
        ids, skipped = _encode(text, read, config, file)
        _score(text, read, ids, skipped, config)


def _encode(
    text: str, checkpoint: Checkpoint, config: ScoreConfig, file: BinaryIO
) -> tuple[Ids, int]:
    """Return the ids of a text, memory-mapped, and how many characters had to be left out.

    Raises CharlstmError for a text that cannot be scored.
    """
    import numpy as np

    from charlstm.corpus import Reading, open_once
    from charlstm.surprisal import MOST_CHARACTERS

    reading = Reading(open_once(text), checkpoint.vocabulary)
    try:
        file.writelines(piece.tobytes() for piece in reading.ids())
        file.flush()
    except OSError as error:
        raise CharlstmError(
            f"{tempfile.gettempdir()}: no room for the encoded text: {error.strerror}; "
            "name another folder in TMPDIR"
        ) from None
    note = reading.account(config.unknown)
    if note:
        click.echo(note, err=True)
    count = file.tell() // checkpoint.vocabulary.id_dtype.itemsize
    check_length(text, count)
    if config.html and count > MOST_CHARACTERS:
        raise CharlstmError(
            f"{text}: {count:,} characters are too many for a page, which can have "
            f"{MOST_CHARACTERS:,}; leave out --html, or take a part of the text"
        )
    return np.memmap(file, checkpoint.vocabulary.id_dtype, mode="r"), reading.skipped


def check_length(name: str, count: int) -> None:
    """Refuse a text of too few characters.

    Raises CharlstmError.
    """
    if count < FEWEST:
        raise CharlstmError(f"{name}: of one character or none there is nothing to predict")


def _score(text: str, checkpoint: Checkpoint, ids: Ids, skipped: int, config: ScoreConfig) -> None:
    """Score the ids of a text, and show what was asked for."""
    from charlstm.evaluation import Evaluation, default_lanes
    from charlstm.surprisal import GUESSES, Page

    vocabulary, nats = checkpoint.vocabulary, 0.0
    lanes = default_lanes(len(ids), config.batch_size or 1)
    lines = _Lines(ids, vocabulary.characters.find("\n")) if config.per_line else None
    guesses = min(GUESSES, len(vocabulary)) if config.html else 0
    page = Page(vocabulary, ids, guesses) if config.html else None
    for prediction in _predictions(checkpoint, ids, lanes, guesses, config.device):
        nats += float(prediction.nats.sum())
        for part in (lines, page):
            if part:
                part.add(prediction)
    found = Evaluation(nats, len(ids) - 1, lanes)
    if page and config.html:
        # The bytes of a file's name can be no UTF-8.
        name = "standard input" if text == "-" else os.fsencode(text).decode("utf-8", "replace")
        write_to(config.html, page.html(name, f"{_bits(found):.4f} bits per character"))
    for line, scored in lines.scores() if lines else ():
        write(_line(line, scored, config))
    write(_summary(found, skipped, config))


def _predictions(
    checkpoint: Checkpoint, ids: Ids, lanes: int, guesses: int, device: str
) -> Iterator[Prediction]:
    """Yield what the model makes of the text, window by window; a bar shows how far it is.

    Raises CharlstmError if the device has too little memory.
    """
    from charlstm import backend
    from charlstm.evaluation import predict
    from charlstm.model import build_model

    chosen, size = backend.select_device(device), len(checkpoint.vocabulary)
    numbers = lanes * (size + 4 * checkpoint.model.units)  # of a column of a window
    length = min(LONGEST_WINDOW, max(1, WINDOW_NUMBERS // numbers), len(ids) - 1)
    terminal = sys.stderr.isatty()
    with (
        closing(bar("scoring", len(ids) - 1, " characters", delay=0.5, hidden=not terminal)) as b,
        backend.named_memory(f"--batch-size (now {lanes} pieces)"),
    ):
        model = build_model(checkpoint.model, size, batch_size=lanes, cudnn=chosen.cudnn)
        model.set_arrays(checkpoint.arrays)
        found = predict(model, ids, sequence_length=length, lanes=lanes, guesses=guesses)
        for prediction in interruptible(found):
            yield prediction
            b.update(sum(count for _, _, count in prediction.spans))


class _Lines:
    """The scores of the lines of a text, each with its line end."""

    def __init__(self, ids: Ids, newline: int) -> None:
        import numpy as np

        ends = [
            np.flatnonzero(ids[start : start + PIECE] == newline) + start + 1
            for start in range(0, len(ids), PIECE)
        ]
        starts = np.concatenate([[0], *ends])
        self._starts = starts[starts < len(ids)]  # nothing is behind the last line end
        self._counts = np.diff(self._starts, append=len(ids))
        self._counts[0] -= 1  # the first character is not predicted
        self._nats = np.zeros(len(self._starts))

    def add(self, prediction: Prediction) -> None:
        """Add the nats of a window."""
        import numpy as np

        for row, first, count in prediction.spans:
            places = np.arange(first, first + count)
            lines = np.searchsorted(self._starts, places, "right") - 1
            np.add.at(self._nats, lines, prediction.nats[row, :count])

    def scores(self) -> Iterator[tuple[int, Evaluation]]:
        """Yield each line's number, from 1, and its score."""
        from charlstm.evaluation import Evaluation

        for line, (nats, count) in enumerate(zip(self._nats, self._counts, strict=True), 1):
            yield line, Evaluation(float(nats), int(count), 1)


def _line(line: int, found: Evaluation, config: ScoreConfig) -> str:
    """Return what is shown of one line; of one without a prediction, there is no mean."""
    if config.json:
        return f"{json.dumps({'line': line, **_account(found)})}\n"
    bits = f"{_bits(found):.4f}" if found.characters else "-"
    heading = "    line  characters  bits per character\n" if line == 1 else ""
    return f"{heading}{line:8}  {found.characters:10}  {bits:>18}\n"


def _summary(found: Evaluation, skipped: int, config: ScoreConfig) -> str:
    """Return what is shown of the whole text."""
    if config.json:
        return f"{json.dumps({**_account(found), 'skipped': skipped, 'lanes': found.lanes})}\n"
    rows = {
        "bits per character": f"{_bits(found):.4f}",
        "nats per character": f"{found.nats_per_char:.4f}",
        "characters": f"{found.characters:,}",
        "skipped": f"{skipped:,}",
        "lanes": f"{found.lanes:,}",
    }
    width = max(map(len, rows.values()))
    table = "".join(f"{name:18}  {value:>{width}}\n" for name, value in rows.items())
    return ("\n" if config.per_line else "") + table


def _account(found: Evaluation) -> dict[str, Any]:
    """Return a score for JSON."""
    some = found.characters > 0
    return {
        "characters": found.characters,
        "nats_per_char": found.nats_per_char if some else None,
        "bits_per_char": _bits(found) if some else None,
    }


def _bits(found: Evaluation) -> float:
    return bits_per_char(found.nats_per_char)
