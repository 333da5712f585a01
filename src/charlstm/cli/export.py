"""``charlstm export``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import MISSING, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli._console import Console
from charlstm.cli._options import FILE, complete_file, epoch_option, options_of, typed_epoch
from charlstm.cli._output import check_file, is_stdout
from charlstm.cli._stdio import tell, write_text
from charlstm.config import encoding_option
from charlstm.errors import CharlstmError
from charlstm.export import export as export_model
from charlstm.export.request import SMALLER, ExportOptions, ExportRequest
from charlstm.options import option, record_of
from charlstm.run.history import bits_per_char

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from charlstm.export.request import Exported, Loss


@dataclass(frozen=True, kw_only=True)
class ExportConfig(ExportOptions):
    """The format of an export, its path, and the text to measure it on."""

    output: str = option(MISSING, "File or folder to write.", **{**FILE, "metavar": "PATH"})
    check: str | None = option(
        None,
        "Measure the cost of the export in bits per character on a text; -: standard input.",
        **FILE,
    )
    encoding: str = encoding_option("Encoding of the text of {check}.")
    epoch: str = epoch_option()


@click.command()
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]", shell_complete=complete_file)
@options_of(ExportConfig)
@click.pass_context
def export(context: click.Context, /, checkpoint: str | None, **values: Any) -> None:
    """Export a model to another runtime, which needs no charlstm.

    The export is a single step with explicit state: ids and states in, logits and states out. It
    carries the vocabulary and the settings. If its runtime is installed, it is loaded there and
    compared with the model before it is saved. CHECKPOINT is a run folder or a weights file; by
    default, the newest run under checkpoints/.

    \b
    charlstm export --format onnx -o model.onnx
    charlstm export --format litert --precision int8 --check test.txt -o model.tflite
    charlstm export --format html -o model.html
    """
    config = record_of(ExportConfig, values)
    if config.stored != "float32" and config.format not in SMALLER:
        raise click.UsageError(f"--format {config.format} is float32; leave out --precision.")
    _export(checkpoint, config, typed_epoch(context))


def _export(named: str | None, config: ExportConfig, epoch: str | None) -> None:
    """Export a model, and report its size and its accuracy."""
    from charlstm.run.find import load_checkpoint
    from charlstm.text.opening import open_once

    path, checkpoint = load_checkpoint(named, epoch)
    if config.format != "saved-model":
        check_file(config.output, path, *filter(None, [config.check]))
    text = open_once(config.check, config.encoding) if config.check else None
    tell(f"epoch {checkpoint.epoch} of {path}")
    with closing(Console()) as console, _destination(config) as destination:
        request = ExportRequest(config, destination, text)
        exported = export_model(checkpoint, request, console.advance)
        if is_stdout(config.output):
            sys.stdout.buffer.write(destination.read_bytes())
            sys.stdout.buffer.flush()
    if exported.loss and exported.loss.note:
        tell(exported.loss.note)
    tell(f"{config.output}: {exported.size / 1e6:,.1f} MB, {_checked(exported)}")
    if exported.note:
        tell(f"note:    {config.output}: {exported.note}")
    if exported.loss:
        table = _table(exported.loss)
        if is_stdout(config.output):
            tell(table.removesuffix("\n"))
        else:
            write_text(table)


@contextmanager
def _destination(config: ExportConfig) -> Iterator[Path]:
    """Yield the path to write to; for standard output, a temporary one.

    Raises CharlstmError if standard output cannot take the format.
    """
    if not is_stdout(config.output):
        yield Path(config.output)
        return
    if config.format == "saved-model" or sys.stdout.isatty():
        what = "a folder" if config.format == "saved-model" else "binary, not for a terminal"
        raise CharlstmError(f"{config.format} is {what}", "name a path", option="output")
    with TemporaryDirectory() as folder:
        yield Path(folder) / f"model.{config.format}"


def _checked(exported: Exported) -> str:
    """Report the largest difference between the export and the model."""
    if exported.difference is None:
        return f"not checked: {exported.missing} is not installed"
    difference = f"largest difference {exported.difference:.1e}"
    return f"checked on {exported.characters} characters: {difference}"


def _table(loss: Loss) -> str:
    """Return a table of bits per character before and after the export."""
    before, after = bits_per_char(loss.before), bits_per_char(loss.after)
    change = round(after - before, 4) + 0  # + 0 turns -0 into 0
    rows = {
        "original": f"{before:.4f}",
        "exported": f"{after:.4f}",
        "change": f"{change:+.4f}",
        "characters": f"{loss.characters:,}",
    }
    width = max(map(len, rows.values()))
    lines = "".join(f"{name:10}  {value:>{width}}\n" for name, value in rows.items())
    return f"bits per character\n{lines}"
