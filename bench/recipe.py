"""Compare training recipes: ``python -m bench.recipe TEXT``; continues where it was stopped.

A recipe is a ``charlstm train`` with some options changed. The runs are kept in
checkpoints/recipe, and a stopped one is resumed.
"""

import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.computer import computer
from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.options import read_toml, record_of
from charlstm.run.folder import RunFolder
from charlstm.run.history import Epoch, best

RUNS = Path("checkpoints/recipe")
SHORT_CHARACTERS = 200_000
SHORT = "--config small --epochs 20"
SHORT_SEEDS = (1, 2)
CHANGES = (
    "",
    "--precision float32",
    "--weight-decay-epochs 4",
    "--weight-decay 0",
    "--dropout 0.4",
    "--average 0",
    "--no-calibrate",
    "--schedule cosine",
    "--weight-decay 0 --average 0 --no-calibrate --schedule cosine --dropout 0.4",
)
FULL = ("--precision bfloat16", "--precision float32")
FULL_SEEDS = (1,)
MINUTES = (1, 3, 10, 30)


@dataclass(frozen=True)
class Result:
    """The epochs of a finished run, and its model."""

    epochs: list[Epoch]
    model: ModelConfig

    @property
    def minutes(self) -> float:
        """The time that the training took, without the start of the program."""
        return (self.epochs[-1].seconds or 0) / 60

    @property
    def best(self) -> Epoch:
        """The epoch that ``charlstm sample`` would use."""
        return next(epoch for epoch in self.epochs if epoch.epoch == best(self.epochs))

    @property
    def loss(self) -> float:
        """Its validation loss in nats."""
        return self.best.valid_loss or 0.0


def main() -> None:
    """Train what is not trained yet, and print the tables as Markdown."""
    text = Path(sys.argv[1])
    RUNS.mkdir(parents=True, exist_ok=True)
    short = RUNS / "short.txt"
    short.write_text(text.read_text(encoding="utf-8")[:SHORT_CHARACTERS], encoding="utf-8")
    print("# Recipes\n")
    print("`make recipe TEXT=input.txt`: the lowest validation loss in nats per character, on the")
    print(f"last tenth of the text. {computer('tensorflow', 'keras')}.\n")
    _short_runs(short)
    _full_runs(text)
    _timed_runs(text)


def _short_runs(text: Path) -> None:
    print(f"## Short runs, on the first {SHORT_CHARACTERS:,} characters\n")
    print(f"`charlstm train {SHORT}`, and the change in each row; the last one is")
    print("the recipe of charlstm 0.1.0.\n")
    seeds = [f"seed {seed}" for seed in SHORT_SEEDS]
    _head("change", *seeds, "mean", "difference", "best epoch")
    first = 0.0
    for change in CHANGES:
        results = [train(text, f"{SHORT} {change}", seed) for seed in SHORT_SEEDS]
        mean = statistics.mean(result.loss for result in results)
        first = first or mean
        losses = [f"{result.loss:.4f}" for result in results]
        epochs = ", ".join(str(result.best.epoch) for result in results)
        name = f"`{change}`" if change else "none"
        _row(name, *losses, f"{mean:.4f}", f"{mean - first:+.4f}", epochs)
    print()


def _full_runs(text: Path) -> None:
    print("## The whole text\n\n`charlstm train input.txt`, and the change in each row\n")
    _head("change", "seed", "validation loss after each epoch", "best", "minutes")
    for change in FULL:
        for seed in FULL_SEEDS:
            result = train(text, f"--config medium {change}", seed)
            curve = " ".join(f"{epoch.valid_loss:.3f}" for epoch in result.epochs)
            _row(f"`{change}`", seed, curve, f"{result.loss:.4f}", f"{result.minutes:.1f}")
    print()


def _timed_runs(text: Path) -> None:
    print("## A given time\n\n`charlstm train input.txt --minutes N`\n")
    _head("N", "model", "epochs", "best", "minutes")
    for minutes in MINUTES:
        result = train(text, f"--minutes {minutes}", 1)
        model = f"{result.model.layers} x LSTM({result.model.units})"
        loss, took = f"{result.loss:.4f}", f"{result.minutes:.1f}"
        _row(minutes, model, len(result.epochs), loss, took)


def _head(*columns: str) -> None:
    _row(*columns)
    _row(*"-" * len(columns))


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def train(text: Path, options: str, seed: int) -> Result:
    """Train with these options, or finish the run that was stopped; return its result."""
    name = f"{text.stem}-{seed}-" + "-".join(option.lstrip("-") for option in options.split())
    run = RunFolder(RUNS / name)
    arguments = ["--seed", str(seed), "--run", str(run.path), *shlex.split(options)]
    arguments += ["--resume", "--keep", "1", "--sample-every", "0"]
    command = [sys.executable, "-m", "charlstm", "train", str(text), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    used = read_toml(run.config_path, str(run.path), (ModelConfig, TrainConfig), missing="")
    return Result(run.finished_epochs(), record_of(ModelConfig, used))


if __name__ == "__main__":
    main()
