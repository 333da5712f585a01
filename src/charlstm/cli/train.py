"""``charlstm train``."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli import _interrupt
from charlstm.cli._console import Console
from charlstm.cli._eta import Eta
from charlstm.cli._options import (
    GroupedCommand,
    complete_config,
    complete_file,
    flag,
    options_of,
)
from charlstm.cli._request import doing, request_of
from charlstm.cli._summary import epoch_line, needs, outcome, step_line, summary
from charlstm.cluster import cluster_of
from charlstm.config import TRAIN_OPTIONS
from charlstm.errors import one_line, spelled
from charlstm.inference import LENGTH, TEMPERATURE
from charlstm.presets import read_config
from charlstm.version import __version__

if TYPE_CHECKING:  # these import numpy, so at run time only when the command runs
    from charlstm.sampling import Sampler
    from charlstm.training.loop import Training
    from charlstm.training.reports import Ended, EpochReport, StepReport
    from charlstm.training.settings import Request

SECONDS_BETWEEN_LINES = 600  # between progress lines in a log file


def _load_config(context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """Make the options of a preset or a TOML file the defaults of this command line."""
    if name:
        context.default_map = read_config(name, TRAIN_OPTIONS)
    return name


@click.command(cls=GroupedCommand)
@click.argument("texts", nargs=-1, metavar="[TEXT]...", shell_complete=complete_file)
@options_of(*TRAIN_OPTIONS)
@click.option(
    "--config",
    metavar="FILE",
    is_eager=True,
    callback=_load_config,
    shell_complete=complete_config,
    help="Take defaults from a preset, by its name, or from a TOML file.",
)
@click.option("--demo", is_flag=True, help="Train on Python's own help texts instead of a file.")
@click.pass_context
def train(context: click.Context, /, texts: tuple[str, ...], *, demo: bool, **values: Any) -> None:
    """Train a model on texts: files, folders, or - for standard input.

    Several texts are read as one, and may be compressed.

    Weights are saved after every epoch, in checkpoints/input/ for a text input.txt. At the end, the
    path of the best weights is printed on standard output, for scripts:

    \b
    model=$(charlstm train input.txt)
    charlstm sample "$model" --prime "LSTM based"

    By default, a preset that fits the length of the text replaces the defaults below. Ctrl+C saves
    and stops; the same command with --resume continues, and ends with the same weights as an
    uninterrupted run.
    """
    from charlstm.training import start
    from charlstm.training.settings import Hooks

    if demo == bool(texts):
        raise click.UsageError("Give one text file or several, or --demo.")
    request = request_of(context, texts, values)
    if request.place.resume and request.place.overwrite:
        raise click.UsageError("Give --resume or --overwrite, not both.")
    cluster = cluster_of(os.environ)
    with closing(Console(silent=not cluster.is_chief)) as console:
        console.say(f"charlstm {__version__}: {doing(request)}")
        if cluster.size > 1:
            console.say(f"cluster: {cluster.size} workers, this is {cluster.named(cluster.index)}")
        hooks = Hooks(_interrupt.pressed, console.advancing("encoding", "B"))
        with start(request, hooks) as training:
            _show(training, request, console)
            best = training.run_folder.choose("best") if cluster.is_chief else None
    if best is not None:
        sys.stdout.buffer.write(os.fsencode(best) + b"\n")  # a path is bytes


def _show(training: Training, request: Request, console: Console) -> None:
    """Run a training to its end and report its progress.

    Raises KeyboardInterrupt if it was stopped.
    """
    from charlstm.training.reports import Ended, EpochReport, Note

    unfinished = training.finished is None
    for line in (*summary(training), *(needs(training) if unfinished else ())):
        console.say(line)
    samples = request.place.sample_every if training.device.cluster.is_chief else 0
    view = _View(training, console, samples)
    for report in training.run():
        _interrupt.defer()  # from here on, a signal means: save, then stop
        match report:
            case EpochReport():
                view.show_epoch(report)
            case Note(text, hint):
                console.say("; ".join(filter(None, [f"note:    {text}", spelled(hint, flag)])))
            case Ended():
                _end(report, training, request, console, begun=unfinished)
            case _:
                view.show_step(report)


def _end(
    ended: Ended, training: Training, request: Request, console: Console, *, begun: bool
) -> None:
    """Say why a training ended, and how to continue.

    Raises KeyboardInterrupt if it was stopped.
    """
    config = training.config
    if ended.reason == "stopped":
        console.say(f"saved; continue with: {_again(request)}")
        _interrupt.stop()
    if not begun and ended.reason == "max_steps":
        console.say(
            f"already finished: --max-steps {config.max_steps} is reached; to train further, start "
            "a new run with --init-from"
        )
    elif not begun:
        console.say("already finished; to train further, raise --epochs or --patience")
    elif ended.reason == "patience":
        console.say(f"stopped early: validation loss has not improved for {config.patience} epochs")
    for line in outcome(training):
        console.say(line)


def _again(request: Request) -> str:
    """Return the command that continues a stopped training."""
    place = request.place
    words = ["charlstm", "train"]
    options = ["--resume"]
    for name in ("run", "device", "replicas"):
        if name in request.given:
            options += [flag(name), str(request.given[name])]
    if place.tensorboard:
        options.append("--tensorboard")
    if not request.texts:
        words += ["--demo", *options]
    elif any(text.startswith("-") for text in request.texts):  # which would be taken for options
        words += [*options, "--", *request.texts]
    else:
        words += [*request.texts, *options]
    return shlex.join(words)


class _View:
    """Shows the reports of a training."""

    def __init__(self, training: Training, console: Console, sample_every: int) -> None:
        self._training = training
        self._sample_every = sample_every
        self._console = console
        self._sampler: Sampler | None = None
        self._problems: set[str] = set()
        from charlstm.training.schedule import total_steps

        steps = training.windows.steps
        total = total_steps(training.config, steps)
        self._eta = Eta(total, steps, training.trainer.steps_per_call)

    def show_step(self, report: StepReport) -> None:
        """Show the progress within an epoch."""
        line = self._eta.after(report)
        if line:
            self._console.say(line)
        size = self._training.windows.step_size
        total, done = report.steps * size, (report.step - 1) * size
        bar = self._console.bar(f"epoch {report.epoch}", total, " characters", first=done)
        if bar is not None:
            bar.set_postfix_str(f"loss {report.loss:.3f}", refresh=False)
            bar.update(size)
        elif self._console.seconds_since_line() >= SECONDS_BETWEEN_LINES:
            self._console.say(step_line(report))

    def show_epoch(self, report: EpochReport) -> None:
        """Show the losses of an epoch, and a sample."""
        self._console.say(epoch_line(report, self._training.config.epochs))
        if not self._sample_every or report.epoch % self._sample_every:
            return
        try:
            self._console.say(self._sample(report.path) + "\n")
        except Exception as error:  # noqa: BLE001 - a failed sample must not end the training
            problem = one_line(error)
            if problem not in self._problems:
                self._console.say(f"note:    no sample: {problem}")
            self._problems.add(problem)

    def _sample(self, path: Path) -> str:
        """Sample a text from the weights of an epoch."""
        from charlstm.run.weights_reader import read_checkpoint
        from charlstm.sampling import Sampler

        checkpoint = read_checkpoint(path)
        if self._sampler is None:
            self._sampler = Sampler(checkpoint, on_gpu=self._training.device.on_gpu)
        self._sampler.set_weights(checkpoint)
        vocabulary = checkpoint.vocabulary
        pieces = self._sampler.sample(
            vocabulary.encode(checkpoint.opening),
            LENGTH,
            temperature=TEMPERATURE,
            seed=self._training.config.seed,
        )
        return "".join(vocabulary.decode(piece.ids[0]) for piece in pieces)
