"""``charlstm export``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlstm.cli import interrupt
from charlstm.cli.options import complete_file, options_of, record_of
from charlstm.cli.output import check_file
from charlstm.cli.progress import bar
from charlstm.cli.sample import read_ids
from charlstm.cli.score import check_length
from charlstm.cli.stream import write
from charlstm.config import SMALLER, ExportConfig
from charlstm.history import bits_per_char

if TYPE_CHECKING:  # for real only when a command runs: numpy
    from numpy.typing import NDArray

    from charlstm.checkpoint import Checkpoint


@click.command()
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]", shell_complete=complete_file)
@options_of(ExportConfig)
@click.pass_context
def export(context: click.Context, /, checkpoint: str | None, **values: Any) -> None:
    """Take a model elsewhere: to another runtime, without charlstm.

    What is written is one step with its state explicit: ids and states go in, logits and states
    come out. It has the vocabulary and the settings with it, and is given its name only when it
    was seen to do what the model does. CHECKPOINT is the folder of a run or one weights file;
    without it, the newest run under checkpoints/.

    \b
    charlstm export --format onnx -o model.onnx
    charlstm export --format litert --precision int8 --check test.txt -o model.tflite
    """
    epoch_given = context.get_parameter_source("epoch") is not ParameterSource.DEFAULT
    config = record_of(ExportConfig, values)
    if config.precision != "float32" and config.format not in SMALLER:
        raise click.UsageError(f"--format {config.format} is float32; leave out --precision.")
    _export(checkpoint, config, epoch_given=epoch_given)


def _export(named: str | None, config: ExportConfig, *, epoch_given: bool) -> None:
    from charlstm.export.place import (
        FOLDERS,
        check_place,
        format_module,
        importing,
        missing_runtime,
        placing,
        size,
        writing,
    )
    from charlstm.runs import read_weights

    path, name = Path(config.output), config.format
    missing = missing_runtime(name, check=config.check is not None)
    weights, checkpoint = read_weights(named, config.epoch, epoch_given=epoch_given)
    if name not in FOLDERS:
        check_file(config.output, weights, *filter(None, [config.check]))
    check_place(path, name, overwrite=config.overwrite)
    text = _text(config.check, checkpoint) if config.check else None
    click.echo(f"epoch {checkpoint.epoch} of {weights}", err=True)

    from charlstm import backend
    from charlstm.export.artifact import make
    from charlstm.export.check import CHARACTERS, check, prime_of

    backend.select_device("cpu")  # on which every export is the same
    form, table = format_module(name), ""
    artifact = make(checkpoint, config.precision)
    with placing(path, name, overwrite=config.overwrite) as part:
        with writing(path):
            form.write(artifact, part)
        interrupt.stop_if_pressed()
        note = f"not checked: {missing} is not installed"
        if not missing:
            with importing(name):
                step = form.load(part)
            characters = len(prime_of(artifact)) + CHARACTERS
            with _bar("checking", characters) as tick:
                found = check(step, artifact, tick)
            note = f"checked over {characters} characters: {found.difference:.1e} apart at most"
            if text is not None:
                table = _loss(checkpoint, text, step, form.WINDOW)
        megabytes = size(part) / 1e6
    click.echo(f"{path}: {megabytes:,.1f} MB, {note}", err=True)
    write(table)


def _text(name: str, checkpoint: Checkpoint) -> NDArray[Any]:
    """Return the ids of the text that the artifact is checked on.

    Raises CharlstmError for one in which there is nothing to predict.
    """
    from charlstm.corpus import open_once

    ids = read_ids(open_once(name), checkpoint.vocabulary, "skip")
    check_length(name, len(ids))
    return ids


def _loss(checkpoint: Checkpoint, ids: NDArray[Any], step: Any, window: int) -> str:
    """Return a table of what the model loses on a text by becoming what it is now."""
    from charlstm.export.artifact import zero_state
    from charlstm.export.check import model_nats, step_nats

    with _bar("measuring", 2 * (len(ids) - 1)) as tick:
        before = bits_per_char(model_nats(checkpoint, ids, tick))
        states = zero_state(checkpoint.model)
        after = bits_per_char(step_nats(step, states, ids, window, tick))
    rows = {"of the model": f"{before:.4f}", "exported": f"{after:.4f}"}
    change = round(after - before, 4) + 0  # and never -0
    rows |= {"change": f"{change:+.4f}", "characters": f"{len(ids) - 1:,}"}
    width = max(map(len, rows.values()))
    lines = "".join(f"{name:12}  {value:>{width}}\n" for name, value in rows.items())
    return f"bits per character\n{lines}"


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """Give what is told of progress; Ctrl+C ends what tells it."""
    hidden = not sys.stderr.isatty()
    with bar(what, total, " characters", delay=0.5, hidden=hidden) as shown:

        def tick(count: int) -> None:
            interrupt.stop_if_pressed()
            shown.update(min(count, total - shown.n))  # the last window can be short

        yield tick
