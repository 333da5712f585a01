"""``charlstm neurons``."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from charlstm import files
from charlstm.cli._console import Console
from charlstm.cli._options import (
    FILE,
    checkpoint_and_text,
    epoch_option,
    json_option,
    options_of,
    refuse_without,
    split_arguments,
    typed_epoch,
)
from charlstm.cli._output import beside_page, check_file, is_stdout, target_of, write_to
from charlstm.cli._stdio import tell
from charlstm.cli._text import read_and_tell
from charlstm.config import encoding_option
from charlstm.errors import CharlstmError
from charlstm.inference import unknown_option
from charlstm.options import option, record_of
from charlstm.text.display import visible

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from numpy.typing import NDArray

    from charlstm.neurons import Neurons
    from charlstm.run.weights import Checkpoint

LISTED, ON_PAGE = 5, 20  # units of each property: in the table, and on the page
SHOWN = 5000  # characters of the text on the page
FEWEST = 2000  # characters: correlations in a shorter text are chance


@dataclass(frozen=True, kw_only=True)
class NeuronsConfig:
    """What to compare units with, and what to write."""

    labels: str | None = option(
        None,
        "Also rank by labels of your own: a file with a character for each of the text.",
        **FILE,
    )
    html: str | None = option(None, "Write a page: the text, coloured by any unit.", **FILE)
    npz: str | None = option(
        None, "Write the states of all units after each character, for numpy.", **FILE
    )
    layer: tuple[str, ...] = option(
        (),
        "Only these layers in {npz}, from 1; can be repeated.",
        pattern="[1-9][0-9]*",
        metavar="N",
    )
    json: bool = json_option()
    unknown: str = unknown_option()
    encoding: str = encoding_option()
    epoch: str = epoch_option()


@click.command()
@checkpoint_and_text
@options_of(NeuronsConfig)
@click.pass_context
def neurons(context: click.Context, /, arguments: tuple[str, ...], **values: Any) -> None:
    """Find the units of a model that track something in a text.

    Such as quotes, indentation, or the position in the line. Every state of every unit is
    correlated with such properties of the text. Units are chosen by the first half of the text;
    the correlation that is shown is that in the second half. CHECKPOINT is a run folder or a
    weights file; by default, the newest run under checkpoints/.

    \b
    charlstm neurons input.txt
    charlstm neurons checkpoints/input input.txt --html neurons.html
    charlstm neurons input.txt --npz states.npz --layer 2
    """
    named, text = split_arguments(arguments)
    config = record_of(NeuronsConfig, values)
    refuse_without(context, "npz", "layer")
    if config.npz and is_stdout(config.npz):
        raise click.UsageError("--npz writes a file, not standard output.")
    _neurons(named, text, config, typed_epoch(context))


def _neurons(named: str | None, text: str, config: NeuronsConfig, epoch: str | None) -> None:
    from charlstm.run.find import load_checkpoint
    from charlstm.text.opening import open_once
    from charlstm.text.properties import labels, properties

    write = beside_page(config.html, json=config.json)
    path, checkpoint = load_checkpoint(named, epoch)
    for output in filter(None, [config.html, config.npz]):
        check_file(output, path, text, *filter(None, [config.labels]))
    tell(f"epoch {checkpoint.epoch} of {path}")
    ids = read_and_tell(open_once(text, config.encoding), checkpoint.vocabulary, config.unknown)
    if len(ids) < FEWEST:
        raise CharlstmError(f"{text}: {len(ids):,} characters are too few", f"use {FEWEST:,}")
    characters = checkpoint.vocabulary.decode(ids)
    known = properties(characters)
    if config.labels:
        known |= labels(characters, _labels(config.labels, config.encoding))
    if config.npz:
        _write_states(config.npz, checkpoint, ids, [int(layer) for layer in config.layer])

    from charlstm.neurons import find_neurons

    with closing(Console()) as console:
        tick = console.advancing("reading")
        found = find_neurons(checkpoint, ids, known, lambda more: tick(len(ids), more))
    if config.html:
        write_to(config.html, _page(found, checkpoint, ids[:SHOWN], text))
    write(_json(found) if config.json else _table(found))


def _labels(path: str, encoding: str) -> str:
    """Return the labels in a file, without a line end at its end."""
    from charlstm.text.opening import open_once
    from charlstm.text.source import Reader

    chunks = Reader(open_once(path, encoding), None).code_points()
    return "".join(chr(point) for chunk in chunks for point in chunk.tolist()).removesuffix("\n")


def _write_states(path: str, checkpoint: Checkpoint, ids: NDArray[Any], layers: list[int]) -> None:
    """Write h and c of the layers, each (N, U), and the ids, (N,).

    Raises CharlstmError if there is no such layer.
    """
    import numpy as np

    from charlstm.neurons import traces, units_of

    units, most = units_of(checkpoint), checkpoint.model.layers
    wanted = layers or [*range(1, most + 1)]
    if max(wanted) > most:
        raise CharlstmError(f"the model has layers 1 to {most}", "name one of them", option="layer")
    columns = [i for i, unit in enumerate(units) if unit.layer in wanted]
    with closing(Console()) as console:
        tick = console.advancing("reading")
        values = traces(checkpoint, ids, columns, lambda more: tick(len(ids), more))
    # The states of a layer are side by side: h of all its units, then c.
    names = dict.fromkeys(f"{units[i].state}_{units[i].layer}" for i in columns)
    parts = dict(zip(names, np.split(values, len(names), 1), strict=True))
    with files.write_errors(path), files.replacing(target_of(path)) as file:
        np.savez(file, ids=ids, **parts)  # type: ignore[arg-type] # savez's ``allow_pickle``


def _page(found: Neurons, checkpoint: Checkpoint, ids: NDArray[Any], text: str) -> str:
    from charlstm.neurons import traces
    from charlstm.pages.neurons import neurons_page

    best = {state for name in found.properties for state in found.best(name, ON_PAGE)}
    chosen = sorted(best)
    values = traces(checkpoint, ids, chosen)
    title = f"What the units track in {visible(text)}"
    return neurons_page(found, chosen, checkpoint.vocabulary.decode(ids), values, title)


def _table(found: Neurons) -> str:
    lines = []
    for name in found.properties:
        lines.append(f"{name}\n")
        column = found.properties.index(name)
        lines += [
            f"  {found.units[state]!s:20}  {found.second[state, column]:6.3f}\n"
            for state in found.best(name, LISTED)
        ]
    return "".join(lines)


def _json(found: Neurons) -> str:
    records = []
    for column, name in enumerate(found.properties):
        best = [
            {
                "layer": found.units[state].layer,
                "state": found.units[state].state,
                "unit": found.units[state].number,
                "correlation": float(found.second[state, column]),
                "chosen_by": float(found.first[state, column]),
            }
            for state in found.best(name, ON_PAGE)
        ]
        records.append({"property": name, "units": best})
    return f"{json.dumps(records)}\n"
