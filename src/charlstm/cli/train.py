"""``charlstm train``."""

import contextlib
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from charlstm import __version__
from charlstm.cli.interrupt import interruptible
from charlstm.cli.options import options_of, record_of
from charlstm.cli.progress import Progress
from charlstm.config import ModelConfig, RunConfig, TrainConfig, read_toml, to_toml

RECORDS = (ModelConfig, TrainConfig, RunConfig)
DEMO = "demo"


def _load_config(context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    """Make a saved command line the defaults of this one; the demo has its own."""
    name = name or (DEMO if context.params.get("demo") else None)
    if name:
        context.default_map = read_toml(name, RECORDS)
    return name


@click.command()
@click.argument("text", required=False, metavar="TEXT")
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
    help="Take defaults from a TOML file, or from a shipped configuration by its name.",
)
@options_of(*RECORDS)
def train(text: str | None, *, demo: bool, config: str | None, **values: Any) -> None:
    """Train a model on a text file, UTF-8 in any script.

    Weights go to checkpoints/NAME/ after every epoch; the path of the best ones is printed on
    standard output at the end, so that a script can say:

    \b
    model=$(charlstm train input.txt)
    charlstm sample "$model" --prime "LSTM based"
    """
    del config  # its values are the defaults by now
    if demo == (text is not None):
        raise click.UsageError("Give one text file, or --demo.")
    _train(
        text,
        record_of(ModelConfig, values),
        record_of(TrainConfig, values),
        record_of(RunConfig, values),
    )


def _train(text: str | None, model: ModelConfig, config: TrainConfig, place: RunConfig) -> None:
    name = text or DEMO
    folder = Path(place.run or Path("checkpoints") / Path(name).stem)
    with contextlib.closing(Progress(config)) as progress:
        progress.say(f"charlstm {__version__}: training on {name}, into {folder}")

        from charlstm import corpus as corpora
        from charlstm.batches import Windows
        from charlstm.run_folder import new_run, writing

        opened = corpora.open_text(text) if text else corpora.demo_text()
        with new_run(folder, overwrite=place.overwrite) as run:
            with writing(folder):
                corpus = corpora.reuse(opened, run.replaced.ids_path, run.replaced.read_corpus())
                if corpus:
                    run.keep_ids()
                else:
                    advance = progress.encoding(opened)
                    corpus = corpora.encode(opened, run.ids_path, advance)
            parts = corpora.split(
                corpus.ids, config.validation, needed=config.batch_size * config.sequence_length + 1
            )
            windows = Windows(parts[0], config.batch_size, config.sequence_length)
            run.write_corpus(corpus.identity())
            progress.describe_text(corpus, windows, parts[1])

            from charlstm import backend, training

            device = backend.select_device(place.device)
            precision = backend.choose_precision(config.precision, device)
            config = replace(config, precision=precision)
            run.write_config(to_toml({**asdict(model), **asdict(config)}))
            progress.describe_model(model, corpus.vocabulary, f"{device.name}, {precision}")
            trainer = training.make_trainer(model, config, len(corpus.vocabulary), device)
            job, sampler = training.Job(model, corpus.vocabulary, parts, run), None
            for report in interruptible(training.train(trainer, job)):
                progress.show(report)
                if isinstance(report, training.EpochReport):
                    sampler = progress.show_sample(report.path, sampler, cudnn=device.cudnn)
    sys.stdout.buffer.write(os.fsencode(run.choose("best")) + b"\n")  # a path is bytes
