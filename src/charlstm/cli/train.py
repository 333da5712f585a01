"""``charlstm train``."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlstm import __version__
from charlstm.cli import interrupt
from charlstm.cli.options import complete_config, complete_file, options_of
from charlstm.cli.progress import Progress
from charlstm.cli.settings import DEMO, RECORDS, Command, Settings, settings, settings_of_run
from charlstm.config import preset_for, read_toml, to_toml
from charlstm.errors import CharlstmError

if TYPE_CHECKING:  # for real only when the command runs: numpy
    from charlstm.backend import Device
    from charlstm.corpus import Corpus, Text
    from charlstm.events import Events
    from charlstm.run_folder import RunFolder
    from charlstm.trainer import Trainer
    from charlstm.training import Job


TYPED = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}


def _load_config(context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """Make a saved command line the defaults of this one; the demo has its own."""
    name = name or (DEMO if context.params.get("demo") else None)
    if name:
        context.default_map = read_toml(name, RECORDS)
    return name


@click.command()
@click.argument("text", required=False, metavar="TEXT", shell_complete=complete_file)
@click.option(
    "--demo",
    is_flag=True,
    is_eager=True,
    help="Train on the help pages of this Python, with the configuration 'demo'.",
)
@click.option(
    "--config",
    metavar="FILE",
    is_eager=True,
    callback=_load_config,
    shell_complete=complete_config,
    help="Take defaults from a TOML file, or from a shipped configuration by its name.",
)
@options_of(*RECORDS)
@click.pass_context
def train(
    context: click.Context, /, text: str | None, *, demo: bool, config: str | None, **values: Any
) -> None:
    """Train a model on a text file, UTF-8 in any script.

    Weights go to checkpoints/NAME/ after every epoch; the path of the best ones is printed on
    standard output at the end, so that a script can say:

    \b
    model=$(charlstm train input.txt --resume)
    charlstm sample "$model" --prime "LSTM based"

    With --resume, the same command goes on where a training was stopped, by Ctrl+C or anything
    else, and ends with the very weights of one that never was.
    """
    if demo == (text is not None):
        raise click.UsageError("Give one text file, or --demo.")
    sources = {name: context.get_parameter_source(name) for name in values}
    typed = {n for n, source in sources.items() if source in TYPED}
    theirs = context.get_parameter_source("config") in TYPED
    saved = {n for n, s in sources.items() if theirs and s is ParameterSource.DEFAULT_MAP}
    command = Command(text, config, values, typed, typed | saved)
    if command.place.resume and command.place.overwrite:
        raise click.UsageError("Give --resume or --overwrite, not both.")
    if command.place.tensorboard and find_spec("tensorboard") is None:
        raise CharlstmError(
            "--tensorboard: TensorBoard is missing; pip install 'charlstm[tensorboard]'"
        )
    old = _old_run(command.folder) if command.place.resume else None
    with contextlib.closing(Progress()) as progress:
        progress.say(
            f"charlstm {__version__}: {'going on with' if old else 'training on'} {text or DEMO}, "
            f"{'in' if old else 'into'} {command.folder}"
        )
        _train(command, progress, old)


def _old_run(folder: Path) -> RunFolder | None:
    """Return the run that a folder holds, or None."""
    from charlstm.run_folder import RunFolder

    run = RunFolder(folder)
    return run if run.exists() else None


def _train(command: Command, progress: Progress, old: RunFolder | None) -> None:
    from charlstm import corpus as corpora
    from charlstm.run_folder import new_run, old_run, writing
    from charlstm.runs import read_weights

    chosen = settings_of_run(old, command) if old else settings(command)
    base = None
    if chosen.config.init_from and not old:
        _, base = read_weights(chosen.config.init_from, "best", epoch_given=False)
        settings(command, base=base)  # refuses before the text is read, which can take long
    folder, text = command.folder, command.text
    opened = corpora.open_text(text) if text else corpora.demo_text()
    with old_run(folder) if old else new_run(folder, overwrite=command.place.overwrite) as run:
        with writing(folder):
            corpus = _corpus(
                opened, run, progress, "" if base is None else base.vocabulary.characters
            )
        if not old:
            count = corpora.training_characters(len(corpus.ids), chosen.config.validation)
            preset = None if command.config else preset_for(count)
            chosen = settings(command, preset=preset, base=base)
            progress.describe_settings(command.config, preset, count)
        _train_on(corpus, command, chosen, progress, run)
    sys.stdout.buffer.write(os.fsencode(run.choose("best")) + b"\n")  # a path is bytes


def _train_on(
    corpus: Corpus, command: Command, chosen: Settings, progress: Progress, run: RunFolder
) -> None:
    from charlstm import corpus as corpora
    from charlstm.batches import Windows

    model, config, vocabulary = chosen.model, chosen.config, corpus.vocabulary
    needed = config.batch_size * config.sequence_length + 1
    parts = corpora.split(corpus.ids, config.validation, needed=needed)
    windows = Windows(parts[0], config.batch_size, config.sequence_length)
    progress.describe_text(corpus, windows, parts[1])
    progress.describe_warmup(config, windows)
    if chosen.base:
        progress.describe_base(chosen.base, corpus)

    from charlstm import backend, finetuning, trainer, training
    from charlstm.events import Events

    device = backend.select_device(command.place.device)
    precision = backend.choose_precision(config.precision, device)
    config = replace(config, precision=precision)
    progress.describe_model(model, vocabulary, f"{device.name}, {precision}")
    job = training.Job(model, vocabulary, parts, run, corpus.sha256, stopped=interrupt.pressed)
    if chosen.base:
        job = replace(job, init=finetuning.fit(chosen.base, vocabulary))
    if chosen.old:
        checkpoint, problem = run.last_state()
        at = training.position(checkpoint, job)
        progress.describe_position(at, checkpoint, training.versions())
        if problem:
            lost = training.steps_lost(at, job, windows.steps)
            progress.warn_of_loss(problem, checkpoint.epoch, lost)
        job = replace(job, resume=checkpoint, at=at)
    if job.at and training.finished(job.at, config, windows, run):
        progress.say(
            f"finished already: --max-steps {config.max_steps} is reached; --init-from begins "
            "another run with its weights"
            if training.out_of_steps(job.at, config, windows)
            else "finished already; --epochs and --patience can be raised"
        )
        return
    run.write_config(to_toml({**asdict(model), **asdict(config)}))
    made = trainer.make_trainer(model, config, len(vocabulary), device)
    progress.describe_needs(
        training.memory(made, job, device), training.forecast(made, job), device
    )
    progress.follow(config, windows, made.steps_per_call)
    limit = config.max_steps
    events = Events(run, windows.steps, limit) if command.place.tensorboard else None
    _follow(made, job, progress, device, events)
    if training.out_of_patience(config, run):
        progress.say(f"no better validation loss for {config.patience} epochs: the end")
    elif interrupt.pressed():
        progress.say(f"saved; go on with: {command.again()}")
        raise KeyboardInterrupt


def _follow(
    made: Trainer, job: Job, progress: Progress, device: Device, events: Events | None
) -> None:
    """Train; show what comes, on the terminal and in files that are there to be looked at."""
    from charlstm.training import EpochReport, train

    sampler = None
    for report in train(made, job):
        interrupt.defer()  # there is something to save now
        progress.show(report)
        if isinstance(report, EpochReport):
            with progress.aside("no loss.png"):
                _draw(job.run)
            with progress.aside("no sample"):
                sampler = progress.show_sample(report.path, sampler, cudnn=device.cudnn)
        elif report.step % made.config.log_every:
            continue
        if events:
            with progress.aside("no event file"):
                events.follow()


def _draw(run: RunFolder) -> None:
    """Draw the losses of the epochs there are."""
    from charlstm import history, report

    run.write_picture(report.loss_png(history.epochs(run.history()[0])))


def _corpus(opened: Text, run: RunFolder, progress: Progress, more: str) -> Corpus:
    """Return the text's ids: those the run has, of the run it replaces, or encoded now.

    ``more`` are the characters that a new run's vocabulary has beside those of the text.

    Raises CharlstmError if an old run has those of another text.
    """
    from charlstm import corpus as corpora

    old = run.kept is run
    identity = run.kept.read_corpus()
    corpus = corpora.reuse(opened, run.kept.ids_path, identity, more=None if old else more)
    if corpus:
        run.keep_ids()
    elif old and not corpora.is_of(opened, identity):
        raise CharlstmError(
            f"{opened.name}: not the text that the run in {run.path} was begun with, or its "
            "corpus.json is damaged; train another run with --run, or begin with --overwrite"
        )
    else:
        more = identity["vocabulary"] if old else more
        corpus = corpora.encode(opened, run.ids_path, progress.encoding(opened), more=more)
    run.write_corpus(corpus.identity())
    return corpus
