"""``charlstm show``."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlstm.architecture import parameters
from charlstm.cli._chart import MARK, Chart, Points
from charlstm.cli._options import complete_file, json_option, options_of
from charlstm.cli._stdio import tell
from charlstm.cli._summary import architecture
from charlstm.cli._verdicts import show_verdicts
from charlstm.config import TrainConfig
from charlstm.options import option, options, record_of
from charlstm.run.history import Epoch, best, bits_per_char, epochs, steps

if TYPE_CHECKING:  # imports numpy, so at run time only when a command runs
    from charlstm.run.description import Description

NARROWEST, WIDEST, HEIGHT = 40, 100, 13  # of the curve, in characters
LABEL = 12  # width of the labels


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What is shown of a run."""

    verify: bool = option(default=False, help="Check the files of the run for damage.")
    json: bool = json_option()


@click.command()
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]", shell_complete=complete_file)
@options_of(ShowConfig)
def show(checkpoint: str | None, **values: Any) -> None:
    """Show a model, its settings and its losses.

    For a run, finished or still training, the losses of all epochs are shown as a table and a
    curve; before the second epoch ends, the curve shows steps. CHECKPOINT is a run folder or a
    weights file; by default, the newest run under checkpoints/.

    \b
    charlstm show
    charlstm show checkpoints/input --json | jq .best_epoch
    """
    config = record_of(ShowConfig, values)
    if config.verify:
        show_verdicts(checkpoint, as_json=config.json)
        return
    view = _view(checkpoint)
    if config.json:
        click.echo(json.dumps(_record(view), allow_nan=False))  # ASCII, whatever the locale
    else:
        encoding = sys.stdout.encoding or "ascii"
        width = max(NARROWEST, shutil.get_terminal_size().columns)
        text = "\n".join(_page(view, width, plain="utf" not in encoding.lower())) + "\n"
        click.echo(text.encode(encoding, "backslashreplace"), nl=False)


@dataclass(frozen=True)
class _View:
    """The data to show of a run or a weights file.

    ``steps`` are the steps in the history, as (epoch, step, loss). ``written`` is the time of its
    last entry; empty without any, as for a single weights file.
    """

    path: Path
    description: Description
    epochs: list[Epoch]
    steps: list[tuple[int, int, float]]
    written: str = ""

    def settings(self) -> dict[str, Any]:
        """Return the options of the training, without values that are invalid."""
        kept = self.description.training
        known = (item for item in options(TrainConfig) if item.name in kept)
        return {i.name: kept[i.name] for i in known if not i.problem(kept[i.name])}

    def versions(self) -> dict[str, str]:
        """Return the versions of the software that trained the model."""
        return {_line(name): _line(value) for name, value in self.description.versions.items()}

    def unfinished_step(self) -> tuple[int, int, float] | None:
        """Return the last step if its epoch is unfinished."""
        done = max((e.epoch for e in self.epochs), default=0)
        return self.steps[-1] if self.steps and self.steps[-1][0] > done else None


def _view(named: str | None) -> _View:
    """Read a run or a weights file, except for the arrays.

    Raises CharlstmError if there is none.
    """
    from charlstm.run.find import find_run
    from charlstm.run.weights_reader import read_description

    place = find_run(named)
    if isinstance(place, Path):
        file = read_description(place)
        losses = file.metrics.get("train_loss"), file.metrics.get("valid_loss")
        return _View(place, file, [] if file.position else [Epoch(file.epoch, *losses)], [])
    file, problem = place.last_description()
    if problem and place.resume_path.exists():
        tell(f"charlstm: {problem}; showing the newest intact epoch instead")
    lines, _ = place.history()
    written = ""
    for line in lines:
        match line:
            case {"clock": {"at": str(at)}}:
                written = _line(at)
    return _View(place.path, file, epochs(lines), steps(lines), written)


def _record(view: _View) -> dict[str, Any]:
    """Return the contents of the page as a JSON object."""
    file, ahead = view.description, view.unfinished_step()
    return {
        "path": str(view.path),
        "epoch": file.epoch,
        "model": asdict(file.model),
        "parameters": parameters(file.model, len(file.vocabulary)),
        "vocabulary": file.vocabulary.characters,
        "training": view.settings(),
        "versions": view.versions(),
        "epochs": [asdict(epoch) for epoch in view.epochs],
        "best_epoch": best(view.epochs),
        "step": dict(zip(("epoch", "step", "loss"), ahead, strict=True)) if ahead else None,
        "written": view.written or None,
    }


def _page(view: _View, width: int, *, plain: bool) -> Iterator[str]:
    """Yield the lines of the page."""
    file = view.description
    characters = file.vocabulary.characters
    count = f"{len(characters):,} characters: "
    empty: tuple[object, ...] = (None, "", [])
    settings = (f"{name} {value}" for name, value in view.settings().items() if value not in empty)
    yield _line(view.path)
    for label, text in {
        "model": f"{architecture(file.model)}: {parameters(file.model, len(characters)):,} "
        "parameters",
        "settings": ", ".join(settings),
        "versions": ", ".join(f"{name} {value}" for name, value in view.versions().items()),
        "trained": _progress(view),
    }.items():
        yield from textwrap.wrap(
            text, width, initial_indent=f"{label}:".ljust(LABEL), subsequent_indent=" " * LABEL
        )
    yield "vocabulary:".ljust(LABEL) + count + _shortened(characters, width - LABEL - len(count))
    if view.epochs:
        yield from ["", *_table(view.epochs)]
    chart = _chart(view, plain=plain)
    if chart:
        marks = f", {MARK} validation" if chart.marks else ""
        yield ""
        yield f"loss, nats and bits per character: {chart.sample} training{marks}"
        yield from chart.rows(min(width, WIDEST), HEIGHT)


def _progress(view: _View) -> str:
    """Describe the progress of the training."""
    if not view.written:
        match view.description.position:
            case {"epoch": int(epoch), "step": int(step)}:
                return f"up to epoch {epoch:,}, step {step:,}"
        return f"epoch {view.description.epoch:,}"
    count, wanted = len(view.epochs), view.settings().get("epochs")
    words = f"{count:,} of {wanted:,} epochs" if wanted else f"{count:,} epochs"
    ahead = view.unfinished_step()
    if ahead:
        words += "; epoch {:,}, step {:,}: loss {:.4f}".format(*ahead)
    return f"{words}; history last written at {view.written}"


def _table(finished: list[Epoch]) -> Iterator[str]:
    """Yield a row for each epoch."""
    chosen = best(finished)
    yield "epoch    train  validation  bits per character  characters/s  seconds"
    for e in finished:
        loss = e.train_loss if e.valid_loss is None else e.valid_loss
        cells = (
            (e.train_loss, 7, 4),
            (e.valid_loss, 10, 4),
            (None if loss is None else bits_per_char(loss), 18, 4),
            (e.characters_per_second, 12, 0),
            (e.seconds, 7, 0),
        )
        row = [f"{e.epoch:5,}", *(_cell(*cell) for cell in cells)]
        yield "  ".join([*row, "best"] if e.epoch == chosen else row)


def _cell(value: float | None, width: int, digits: int) -> str:
    return "-".rjust(width) if value is None else f"{value:{width},.{digits}f}"


def _chart(view: _View, *, plain: bool) -> Chart | None:
    """Return a chart of the epochs, or of the steps until there are two epochs."""
    train: Points = [(e.epoch, e.train_loss) for e in view.epochs if e.train_loss is not None]
    valid: Points = [(e.epoch, e.valid_loss) for e in view.epochs if e.valid_loss is not None]
    if len(train) > 1:
        ends = f"epoch {view.epochs[0].epoch:,}", f"epoch {view.epochs[-1].epoch:,}"
        return Chart(train, valid, ends, bits_per_char, plain)
    if len(view.steps) > 1:
        train = [(i, loss) for i, (_, _, loss) in enumerate(view.steps)]
        first, last = (f"epoch {e:,}, step {s:,}" for e, s, _ in (view.steps[0], view.steps[-1]))
        return Chart(train, [], (first, last), bits_per_char, plain)
    return None


def _shortened(characters: str, width: int) -> str:
    """Show as many characters as fit into a width, with control characters escaped."""
    shown: list[str] = []
    left = width - len("''...")
    for character in characters:
        text = repr(character)[1:-1]
        left -= sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
        if left < 0:
            return f"'{''.join(shown)}'..."
        shown.append(text)
    return f"'{''.join(shown)}'"


def _line(text: object) -> str:
    """Escape the control characters of a text from a file."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
