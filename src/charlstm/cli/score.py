"""``charlstm score``."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli._console import Console
from charlstm.cli._options import (
    FILE,
    checkpoint_and_text,
    epoch_option,
    options_of,
    refuse_without,
    split_arguments,
    typed_epoch,
)
from charlstm.cli._output import beside_page, check_file, write_to
from charlstm.cli._stdio import tell
from charlstm.config import encoding_option
from charlstm.inference import AdaptOptions, ScoreOptions
from charlstm.options import option, options, record_of
from charlstm.text.display import visible

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from charlstm.evaluation import Evaluation
    from charlstm.scoring import Score
    from charlstm.text.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ScoreOptions):
    """How a text is scored, and how the score is printed."""

    encoding: str = encoding_option()
    json: bool = option(default=False, help="Print a JSON object instead of a table.")
    html: str | None = option(
        None, "Also write an HTML page that shades each character by its surprisal.", **FILE
    )
    epoch: str = epoch_option()


@click.command()
@checkpoint_and_text
@options_of(ScoreConfig)
@click.pass_context
def score(context: click.Context, /, arguments: tuple[str, ...], **values: Any) -> None:
    """Measure how well a model predicts a text, in bits per character.

    Every character but the first is predicted from all the characters before it, unless
    --batch-size splits the text. TEXT is a file, or - for standard input. CHECKPOINT is a
    run folder or a weights file; by default, the newest run under checkpoints/.

    \b
    charlstm score held-out.txt
    charlstm score checkpoints/input held-out.txt --batch-size 32 --json
    charlstm score held-out.txt --html surprisal.html
    charlstm score names.txt --per-line --reset
    """
    named, text = split_arguments(arguments)
    refuse_without(context, "adapt", *(item.name for item in options(AdaptOptions)))
    config = record_of(ScoreConfig, values)
    _score(named, text, config, typed_epoch(context))


def _score(named: str | None, text: str, config: ScoreConfig, epoch: str | None) -> None:
    """Score a text, write the score, and the page if there is one."""
    from charlstm import scoring
    from charlstm.pages.surprisal import GUESSES
    from charlstm.run.find import load_checkpoint
    from charlstm.text.opening import open_once

    write = beside_page(config.html, json=config.json)
    path, checkpoint = load_checkpoint(named, epoch)
    if config.html:
        check_file(config.html, path, text)
    tell(f"epoch {checkpoint.epoch} of {path}")
    guesses = GUESSES if config.html else 0
    with closing(Console()) as console:
        progress = console.advancing("scoring")
        result = scoring.score(
            checkpoint, open_once(text, config.encoding), config, guesses=guesses, progress=progress
        )
    if result.note:
        tell(result.note)
    if config.html:
        _write_page(config.html, text, checkpoint.vocabulary, result)
    for number, line in enumerate(result.lines, 1):
        write(_row("line", number, line, config))
    for number, (record, of_record) in enumerate(result.records, 1):
        write(_row("record", number, of_record, config, record))
    write(_summary(result, config))


def _write_page(path: str, text: str, vocabulary: Vocabulary, result: Score) -> None:
    """Write the page that shades a text by surprisal."""
    from charlstm.pages.surprisal import surprisal_page

    assert result.details
    # A file name can have bytes that are not UTF-8.
    name = "standard input" if text == "-" else os.fsencode(text).decode("utf-8", "replace")
    summary = f"{result.bits_per_char:.4f} bits per character"
    write_to(path, surprisal_page(vocabulary, result.details, name, summary))


def _row(
    what: str, number: int, part: Evaluation, config: ScoreConfig, text: str | None = None
) -> str:
    """Format the score of a line or record; a line without predictions has no mean."""
    if config.json:
        shown = {} if text is None else {"text": text}
        return f"{json.dumps({what: number, **_record(part), **shown})}\n"
    bits = f"{part.bits_per_char:.4f}" if part.characters else "-"
    heading = f"{what:>8}  characters  bits per character\n" if number == 1 else ""
    end = "" if text is None else f"  {visible(text)}"
    return f"{heading}{number:8}  {part.characters:10}  {bits:>18}{end}\n"


def _summary(result: Score, config: ScoreConfig) -> str:
    """Format the score of the text."""
    whole = result.whole
    if config.json:
        record = {
            **_record(whole),
            "skipped": result.skipped,
            "unknown": result.unknown,
            "lanes": whole.lanes,
        }
        return f"{json.dumps(record)}\n"
    rows = {
        "bits per character": f"{whole.bits_per_char:.4f}",
        "nats per character": f"{whole.nats_per_char:.4f}",
        "characters": f"{whole.characters:,}",
        "skipped": f"{result.skipped:,}",
        "lanes": f"{whole.lanes:,}",
    }
    if result.unknown:
        rows["unknown"] = f"{result.unknown:,}"
    width = max(map(len, rows.values()))
    table = "".join(f"{name:18}  {value:>{width}}\n" for name, value in rows.items())
    return ("\n" if config.per_line or config.per_record else "") + table


def _record(evaluation: Evaluation) -> dict[str, Any]:
    """Return a score as a JSON object; its means are None without predictions."""
    predicted = evaluation.characters > 0
    return {
        "characters": evaluation.characters,
        "nats_per_char": evaluation.nats_per_char if predicted else None,
        "bits_per_char": evaluation.bits_per_char if predicted else None,
    }
