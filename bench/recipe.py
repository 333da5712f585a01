"""Compare training recipes: ``python -m bench.recipe TEXT ['OTHER OPTIONS' ...]``.

A recipe is a ``charlstm train`` with some options changed. Each further argument is another text
and the options of a training on it. The runs are kept in checkpoints/recipe, and one that was
stopped is resumed.
"""

import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from bench.computer import computer
from charlstm.architecture import ModelConfig, parameters
from charlstm.config import TrainConfig
from charlstm.options import read_toml, record_of
from charlstm.run.folder import RunFolder
from charlstm.run.history import Epoch, best

RUNS = Path("checkpoints/recipe")
PICTURE = Path("bench/recipe.png")
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
FULL_SEEDS = (1, 2, 3)
MILLION = "--config small --units 208 --weight-decay-epochs 4 --dropout 0.1 --epochs 24"
MINUTES = (1, 3, 10, 30)


@dataclass(frozen=True)
class Result:
    """The epochs of a finished run, its model and its folder."""

    epochs: list[Epoch]
    model: ModelConfig
    folder: Path

    @property
    def minutes(self) -> float:
        """The time that the training took, without the start of the program."""
        return (self.epochs[-1].seconds or 0) / 60

    @property
    def vocab_size(self) -> int:
        """The number of distinct characters of its text."""
        return len(RunFolder(self.folder).read_corpus()["vocabulary"])

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
    short_runs = _short_runs(short)
    full_runs = _full_runs(text)
    timed_runs = _timed_runs(text)
    _other_texts(sys.argv[2:])
    _draw(short_runs, full_runs)
    _write(min((*full_runs.values(), *timed_runs), key=lambda result: result.loss))


def _short_runs(text: Path) -> dict[str, Result]:
    """Print the table of the changes; return the run of each with the first seed."""
    print(f"## Short runs, on the first {SHORT_CHARACTERS:,} characters\n")
    print(f"`charlstm train {SHORT}`, and the change in each row; the last one is")
    print("the recipe of charlstm 0.1.0.\n")
    seeds = [f"seed {seed}" for seed in SHORT_SEEDS]
    _head("change", *seeds, "mean", "difference", "best epoch")
    first, runs = 0.0, {}
    for change in CHANGES:
        results = [train(text, f"{SHORT} {change}", seed) for seed in SHORT_SEEDS]
        runs[change or "the preset"] = results[0]
        mean = statistics.mean(result.loss for result in results)
        first = first or mean
        losses = [f"{result.loss:.4f}" for result in results]
        epochs = ", ".join(str(result.best.epoch) for result in results)
        name = f"`{change}`" if change else "none"
        _row(name, *losses, f"{mean:.4f}", f"{mean - first:+.4f}", epochs)
    print()
    return runs


def _full_runs(text: Path) -> dict[str, Result]:
    """Print the table of the recipe in both precisions; return all runs, by name."""
    print("## The whole text\n\n`charlstm train input.txt`, and the change in each row.\n")
    _head("change", "seed", "validation loss after each epoch", "best")
    runs = {}
    for change in FULL:
        for seed in FULL_SEEDS:
            runs[f"{change}, seed {seed}"] = result = train(text, f"--config medium {change}", seed)
            curve = " ".join(f"{epoch.valid_loss:.3f}" for epoch in result.epochs)
            _row(f"`{change}`", seed, curve, f"{result.loss:.4f}")
    means = [
        statistics.mean(runs[f"{change}, seed {seed}"].loss for seed in FULL_SEEDS)
        for change in FULL
    ]
    print(f"\nMean: {means[0]:.4f} in bfloat16, {means[1]:.4f} in float32.\n")
    million = train(text, MILLION, 1)
    count = parameters(million.model, million.vocab_size)
    print(f"`{MILLION}`, {count:,} parameters: {million.loss:.4f}.\n")
    return runs


def _timed_runs(text: Path) -> list[Result]:
    """Print the table of the trainings of given times; return them."""
    print("## A given time\n\n`charlstm train input.txt --minutes N`; the minutes are those of the")
    print("training, without the start of the program.\n")
    _head("N", "model", "epochs begun", "best", "minutes")
    results = []
    for minutes in MINUTES:
        result = train(text, f"--minutes {minutes}", 1)
        model = f"{result.model.layers} x LSTM({result.model.units})"
        loss, took = f"{result.loss:.4f}", f"{result.minutes:.1f}"
        _row(minutes, model, len(result.epochs), loss, took)
        results.append(result)
    print()
    return results


def _other_texts(words: list[str]) -> None:
    """Print the table of the trainings on other texts; each word is a text and its options."""
    print("## Other texts\n")
    _head("text", "characters", "distinct", "options", "best epoch", "loss")
    for word in words:
        name, _, change = word.partition(" ")
        result = train(Path(name), change, 1)
        size, vocab_size = len(Path(name).read_text("utf-8")), result.vocab_size
        loss = f"{result.loss:.4f}"
        _row(name, f"{size:,}", f"{vocab_size:,}", f"`{change}`", result.best.epoch, loss)
    print()


def _draw(*parts: dict[str, Result]) -> None:
    """Draw the validation loss after each epoch of all runs."""
    print("## Curves\n\n![validation loss after each epoch](recipe.png)\n")
    figure = Figure((11, 5), dpi=80, layout="constrained")
    for axes, runs in zip(figure.subplots(1, len(parts)), parts, strict=True):
        for name, result in runs.items():
            losses = [(epoch.epoch, epoch.valid_loss) for epoch in result.epochs]
            axes.plot(*zip(*losses, strict=True), label=name, linewidth=1.2)
        axes.set_ylim(top=min(axes.get_ylim()) + 0.35)
        axes.set_xlabel("epoch")
        axes.legend(fontsize=7)
        axes.grid(color="#e4e4e4")
    figure.axes[0].set_ylabel("validation loss, nats per character")
    figure.savefig(PICTURE)


def _write(best: Result) -> None:
    """Print a text that the best model wrote."""
    options = ["--length", "1000", "--temperature", "0.7", "--seed", "1", "--prime", "ROMEO:\n"]
    command = [sys.executable, "-m", "charlstm", "sample", str(best.folder), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(f"## 1,000 characters of the best model, {best.loss:.4f} nats\n")
    shown = " ".join(options[:-1]) + r" $'ROMEO:\n'"
    print(f"`charlstm sample {shown}`\n\n```\n{done.stdout.strip()}\n```")


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
    return Result(run.finished_epochs(), record_of(ModelConfig, used), run.path)


if __name__ == "__main__":
    main()
