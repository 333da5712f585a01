"""``charlstm train``."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlstm import __version__
from charlstm.cli import interrupt
from charlstm.cli.options import complete_config, complete_file, options_of, record_of
from charlstm.cli.progress import Progress
from charlstm.config import ModelConfig, RunConfig, TrainConfig, options, read_toml, to_toml
from charlstm.errors import CharlstmError

if TYPE_CHECKING:  # for real only when the command runs: numpy
    from charlstm.backend import Device
    from charlstm.corpus import Corpus, Text
    from charlstm.events import Events
    from charlstm.run_folder import RunFolder
    from charlstm.training import Job, Trainer

RECORDS = (ModelConfig, TrainConfig, RunConfig)
DEMO = "demo"
MAY_CHANGE = {"save_minutes", "log_every", "patience", "keep"}  # at resume, to anything


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
    del config  # its values are the defaults by now
    if demo == (text is not None):
        raise click.UsageError("Give one text file, or --demo.")
    place = record_of(RunConfig, values)
    if place.resume and place.overwrite:
        raise click.UsageError("Give --resume or --overwrite, not both.")
    if place.tensorboard and find_spec("tensorboard") is None:
        raise CharlstmError(
            "--tensorboard: TensorBoard is missing; pip install 'charlstm[tensorboard]'"
        )
    folder = _folder(text, place)
    records = record_of(ModelConfig, values), record_of(TrainConfig, values)

    old = _old_run(folder) if place.resume else None
    if old:
        default = ParameterSource.DEFAULT
        given = {n for n in context.params if context.get_parameter_source(n) is not default}
        records = _records_of(old, values, given)
    with contextlib.closing(Progress(records[1])) as progress:
        progress.say(
            f"charlstm {__version__}: {'going on with' if old else 'training on'} {text or DEMO}, "
            f"{'in' if old else 'into'} {folder}"
        )
        _train(text, records, place, progress, old)


def _folder(text: str | None, place: RunConfig) -> Path:
    """Return the folder of the run."""
    return Path(place.run or Path("checkpoints") / Path(text or DEMO).stem)


def _old_run(folder: Path) -> RunFolder | None:
    """Return the run that a folder holds, or None."""
    from charlstm.run_folder import RunFolder

    run = RunFolder(folder)
    return run if run.exists() else None


def _records_of(
    run: RunFolder, values: dict[str, Any], given: set[str]
) -> tuple[ModelConfig, TrainConfig]:
    """Return the options of a run, but for those given now that may change.

    Raises CharlstmError for another value of one that may not.
    """
    known = read_toml(run.config_path, (ModelConfig, TrainConfig))
    used = dict(known)
    for item in options(ModelConfig, TrainConfig):
        new, old = values[item.name], used.setdefault(item.name, item.default)
        if item.name not in given or new == old or (item.name == "precision" and new == "auto"):
            continue
        if item.name not in MAY_CHANGE and not (item.name == "epochs" and new > old):
            raise CharlstmError(
                f"{item.flag} {new}: the run in {run.path} has {old}; leave it out, "
                "or train another run with --run"
            )
        used[item.name] = new
    return record_of(ModelConfig, used), record_of(TrainConfig, used)


def _train(
    text: str | None,
    records: tuple[ModelConfig, TrainConfig],
    place: RunConfig,
    progress: Progress,
    old: RunFolder | None,
) -> None:
    from charlstm import corpus as corpora
    from charlstm.batches import Windows
    from charlstm.run_folder import new_run, old_run, writing

    model, config = records
    if config.patience and not config.validation:
        raise CharlstmError("--patience: there is no validation to judge by; raise --validation")
    folder = _folder(text, place)
    opened = corpora.open_text(text) if text else corpora.demo_text()
    with old_run(folder) if old else new_run(folder, overwrite=place.overwrite) as run:
        with writing(folder):
            corpus = _corpus(opened, run, progress)
        needed = config.batch_size * config.sequence_length + 1
        parts = corpora.split(corpus.ids, config.validation, needed=needed)
        windows = Windows(parts[0], config.batch_size, config.sequence_length)
        progress.describe_text(corpus, windows, parts[1])

        from charlstm import backend, training
        from charlstm.events import Events

        device = backend.select_device(place.device)
        precision = backend.choose_precision(config.precision, device)
        config = replace(config, precision=precision)
        progress.describe_model(model, corpus.vocabulary, f"{device.name}, {precision}")
        job = training.Job(model, corpus.vocabulary, parts, run, stopped=interrupt.pressed)
        if old:
            checkpoint, problem = run.last_state()
            at = training.position(checkpoint, run)
            progress.describe_position(at, checkpoint, problem, training.versions())
            job = replace(job, resume=checkpoint, at=at)
        if not (job.at and training.finished(job.at, config, windows, run)):
            run.write_config(to_toml({**asdict(model), **asdict(config)}))
            trainer = training.make_trainer(model, config, len(corpus.vocabulary), device)
            memory, disk = training.memory(trainer, job, device), training.forecast(trainer, job)
            progress.describe_needs(memory, disk, device)
            progress.expect(windows, trainer.steps_per_call)
            limit = config.max_steps
            events = Events(run, windows.steps, limit) if place.tensorboard else None
            _follow(trainer, job, progress, device, events)
            if training.out_of_patience(config, run):
                progress.say(f"no better validation loss for {config.patience} epochs: the end")
            elif interrupt.pressed():
                progress.say(f"saved; go on with: {_command(text, place)}")
                raise KeyboardInterrupt
        else:
            progress.say("finished already; --epochs and --patience can be raised")
    sys.stdout.buffer.write(os.fsencode(run.choose("best")) + b"\n")  # a path is bytes


def _follow(
    trainer: Trainer, job: Job, progress: Progress, device: Device, events: Events | None
) -> None:
    """Train; show what comes, on the terminal and in files that are there to be looked at."""
    from charlstm.training import EpochReport, train

    sampler = None
    for report in train(trainer, job):
        interrupt.defer()  # there is something to save now
        progress.show(report)
        if isinstance(report, EpochReport):
            with progress.aside("no loss.png"):
                _draw(job.run)
            sampler = progress.show_sample(report.path, sampler, cudnn=device.cudnn)
        elif report.step % trainer.config.log_every:
            continue
        if events:
            with progress.aside("no event file"):
                events.follow()


def _corpus(opened: Text, run: RunFolder, progress: Progress) -> Corpus:
    """Return the text's ids: those the run has, of the run it replaces, or encoded now.

    Raises CharlstmError if an old run has those of another text.
    """
    from charlstm import corpus as corpora

    corpus = corpora.reuse(opened, run.kept.ids_path, run.kept.read_corpus())
    if corpus:
        run.keep_ids()
    elif run.kept is run:
        raise CharlstmError(
            f"{opened.name}: not the text that the run in {run.path} was begun with, or its "
            "corpus.ids is damaged; train another run with --run, or begin with --overwrite"
        )
    else:
        corpus = corpora.encode(opened, run.ids_path, progress.encoding(opened))
    run.write_corpus(corpus.identity())
    return corpus


def _draw(run: RunFolder) -> None:
    """Draw the losses of the epochs there are."""
    from charlstm import history, report

    run.write_picture(report.loss_png(history.epochs(run.history()[0])))


def _command(text: str | None, place: RunConfig) -> str:
    """Return what to type to go on."""
    run = ["--run", place.run] if place.run else []
    more = ["--tensorboard"] if place.tensorboard else []
    return shlex.join(["charlstm", "train", text or "--demo", "--resume", *run, *more])
