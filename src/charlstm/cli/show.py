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

from charlstm.cli.chart import MARK, Chart, Points
from charlstm.cli.options import complete_file, options_of, record_of
from charlstm.cli.progress import architecture
from charlstm.config import ShowConfig, TrainConfig, options
from charlstm.history import Epoch, best, bits_per_char, epochs, steps

if TYPE_CHECKING:
    from charlstm.checkpoint import Checkpoint  # for real only when a command runs: h5py

NARROWEST, WIDEST, HEIGHT = 40, 100, 13  # of the curve, in characters
LABEL = 12  # characters of a line's label


@click.command()
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]", shell_complete=complete_file)
@options_of(ShowConfig)
def show(checkpoint: str | None, **values: Any) -> None:
    """Show a model and how its training goes.

    The architecture, the vocabulary, the settings, and of a run, finished or not, the losses of its
    epochs as a table and as a curve: of its steps as long as there are not two epochs.
    CHECKPOINT is the folder of a run or one weights file; without it, the newest run under
    checkpoints/.

    \b
    charlstm show
    charlstm show checkpoints/input --json | jq .best_epoch
    """
    found = _look(checkpoint)
    if record_of(ShowConfig, values).json:
        click.echo(json.dumps(_record(found), allow_nan=False))  # ASCII, whatever the locale
    else:
        encoding = sys.stdout.encoding or "ascii"
        width = max(NARROWEST, shutil.get_terminal_size().columns)
        text = "\n".join(_page(found, width, plain="utf" not in encoding.lower())) + "\n"
        click.echo(text.encode(encoding, "backslashreplace"), nl=False)


@dataclass(frozen=True)
class _Found:
    """What there is to show.

    ``steps`` are the steps that the history has, as (epoch, step, loss); ``written`` is when its
    last line was, empty for a weights file alone.
    """

    path: Path
    checkpoint: Checkpoint
    epochs: list[Epoch]
    steps: list[tuple[int, int, float]]
    written: str = ""

    def settings(self) -> dict[str, Any]:
        """Return the options of the training, as far as the file has what they can be."""
        kept = self.checkpoint.training
        known = (item for item in options(TrainConfig) if item.name in kept)
        return {i.name: kept[i.name] for i in known if not i.problem(kept[i.name])}

    def versions(self) -> dict[str, str]:
        """Return what computed."""
        return {_line(name): _line(value) for name, value in self.checkpoint.versions.items()}

    def steps_ahead(self) -> tuple[int, int, float] | None:
        """Return the last step, if its epoch is not finished."""
        done = max((e.epoch for e in self.epochs), default=0)
        return self.steps[-1] if self.steps and self.steps[-1][0] > done else None


def _look(checkpoint: str | None) -> _Found:
    """Read all but the arrays of a run or of a weights file.

    Raises CharlstmError if there is none.
    """
    from charlstm import checkpoint as checkpoints
    from charlstm.runs import find_run

    place = find_run(checkpoint)
    if isinstance(place, Path):
        file = checkpoints.read(place, arrays=False)
        losses = file.metrics.get("train_loss"), file.metrics.get("valid_loss")
        return _Found(place, file, [] if file.resume else [Epoch(file.epoch, *losses)], [])
    file, problem = place.last_state(arrays=False)
    if problem and place.resume_path.exists():
        click.echo(f"charlstm: {problem}; shown is the newest good epoch's", err=True)
    lines, _ = place.history()
    written = ""
    for line in lines:
        match line:
            case {"clock": {"at": str(at)}}:
                written = _line(at)
    return _Found(place.path, file, epochs(lines), steps(lines), written)


def _record(found: _Found) -> dict[str, Any]:
    """Return what is shown, for JSON."""
    from charlstm.checkpoint import parameters

    file, ahead = found.checkpoint, found.steps_ahead()
    return {
        "path": str(found.path),
        "epoch": file.epoch,
        "model": asdict(file.model),
        "parameters": parameters(file.model, len(file.vocabulary)),
        "vocabulary": file.vocabulary.characters,
        "training": found.settings(),
        "versions": found.versions(),
        "epochs": [asdict(epoch) for epoch in found.epochs],
        "best_epoch": best(found.epochs),
        "step": dict(zip(("epoch", "step", "loss"), ahead, strict=True)) if ahead else None,
        "written": found.written or None,
    }


def _page(found: _Found, width: int, *, plain: bool) -> Iterator[str]:
    """Yield the lines of what is shown."""
    from charlstm.checkpoint import parameters

    file = found.checkpoint
    characters = file.vocabulary.characters
    count = f"{len(characters):,} characters: "
    settings = (f"{name} {value}" for name, value in found.settings().items() if value is not None)
    yield _line(found.path)
    for label, text in {
        "model": f"{architecture(file.model)}: {parameters(file.model, len(characters)):,} "
        "parameters",
        "settings": ", ".join(settings),
        "versions": ", ".join(f"{name} {value}" for name, value in found.versions().items()),
        "trained": _progress(found),
    }.items():
        yield from textwrap.wrap(
            text, width, initial_indent=f"{label}:".ljust(LABEL), subsequent_indent=" " * LABEL
        )
    yield "vocabulary:".ljust(LABEL) + count + _shortened(characters, width - LABEL - len(count))
    if found.epochs:
        yield from ["", *_table(found.epochs)]
    chart = _chart(found, plain=plain)
    if chart:
        marks = f", {MARK} validation" if chart.marks else ""
        yield ""
        yield f"loss, nats and bits per character: {chart.sample} training{marks}"
        yield from chart.rows(min(width, WIDEST), HEIGHT)


def _progress(found: _Found) -> str:
    """Say how far the training is."""
    if not found.written:
        match found.checkpoint.resume and found.checkpoint.resume.position:
            case {"epoch": int(epoch), "step": int(step)}:
                return f"until epoch {epoch:,}, step {step:,}"
        return f"epoch {found.checkpoint.epoch:,}"
    count, wanted = len(found.epochs), found.settings().get("epochs")
    words = f"{count:,} of {wanted:,} epochs" if wanted else f"{count:,} epochs"
    ahead = found.steps_ahead()
    if ahead:
        words += "; epoch {:,}, step {:,}: loss {:.4f}".format(*ahead)
    return f"{words}; last line of its history at {found.written}"


def _table(found: list[Epoch]) -> Iterator[str]:
    """Yield a row for each epoch."""
    chosen = best(found)
    yield "epoch    train  validation  bits per character  characters/s  seconds"
    for e in found:
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


def _chart(found: _Found, *, plain: bool) -> Chart | None:
    """Return the curves of the epochs; while there are not two of these, that of the steps."""
    train: Points = [(e.epoch, e.train_loss) for e in found.epochs if e.train_loss is not None]
    valid: Points = [(e.epoch, e.valid_loss) for e in found.epochs if e.valid_loss is not None]
    if len(train) > 1:
        ends = f"epoch {found.epochs[0].epoch:,}", f"epoch {found.epochs[-1].epoch:,}"
        return Chart(train, valid, ends, bits_per_char, plain)
    if len(found.steps) > 1:
        train = [(i, loss) for i, (_, _, loss) in enumerate(found.steps)]
        first, last = (f"epoch {e:,}, step {s:,}" for e, s, _ in (found.steps[0], found.steps[-1]))
        return Chart(train, [], (first, last), bits_per_char, plain)
    return None


def _shortened(characters: str, width: int) -> str:
    """Show as many characters as a width has room for, and none that moves the cursor."""
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
    """Show a text from a file without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))
