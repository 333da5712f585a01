"""The options of a training, of drawing and of scoring; the shipped presets.

Those of a model are in ``architecture``. Knows no Click and no Keras.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from charlstm.architecture import ModelConfig
from charlstm.options import option, read_toml

RUNS = Path("checkpoints")  # where trainings make their folders
DEMO = "demo"  # the preset, and the name, of the text that every Python carries
# Below how many characters of training each is chosen.
PRESETS = {"small": 300_000, "medium": 20_000_000, "large": math.inf}
SEED_LIMIT = 2**32
LENGTH, TEMPERATURE = 256, 1.0  # of a text that is drawn, unless others are asked for
MAX_EPOCHS = 2**24 - 1


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the weights are found."""

    batch_size: int = option(32, "Pieces of the text read side by side.", low=1)
    sequence_length: int = option(64, "Characters of a step, in each piece.", low=1)
    epochs: int = option(20, "Passes over the text.", low=1, high=MAX_EPOCHS)
    max_steps: int | None = option(None, "Stop after so many steps in all.", low=1)
    optimizer: str = option(
        "adam", "How gradients become steps.", choices=("adam", "rmsprop", "adagrad", "sgd")
    )
    learning_rate: float = option(0.002, "Size of the steps.", low=0, open_ends="low")
    warmup: int = option(0, "Steps in which the learning rate rises from 0.", low=0)
    schedule: str = option(
        "constant",
        "How the learning rate falls; cosine: to 2 % at the last step.",
        choices=("constant", "cosine", "exponential"),
    )
    schedule_epochs: int | None = option(
        None, "Epochs that {schedule} is made for; by default, {epochs}.", low=1, high=MAX_EPOCHS
    )
    decay: float = option(
        0.97, "With {schedule} exponential, its factor per epoch.", low=0, high=1, open_ends="low"
    )
    decay_after: int = option(0, "Epochs before the first {decay}.", low=0)
    epsilon: float | None = option(
        None, "The optimizer's epsilon; by default, its own.", low=0, open_ends="low"
    )
    rho: float | None = option(
        None,
        "Of rmsprop: how slowly its mean moves; by default, its own.",
        low=0,
        high=1,
        open_ends="high",
    )
    weight_decay: float = option(
        0.0, "Share that kernels lose in a step, times the learning rate.", low=0
    )
    init_from: str | None = option(
        None,
        "Begin with the weights of a run or a weights file, of any text.",
        metavar="CHECKPOINT",
    )
    precision: str = option(
        "auto",
        "Of the matrix products in training; bfloat16: on some CPUs, float16: on GPUs.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    clip_value: float = option(0.0, "Largest value in the gradients; 0: no limit.", low=0)
    clip_norm: float = option(
        1.0, "Largest global norm of the gradients, after {clip_value}; 0: no limit.", low=0
    )
    validation: float = option(
        0.1, "Share of the text, at its end, kept for validation.", low=0, high=1, open_ends="high"
    )
    seed: int = option(1, "Start of all random numbers.", low=0, high=SEED_LIMIT - 1)
    log_every: int = option(100, "Steps between two lines of history.jsonl.", low=1)
    patience: int | None = option(
        None, "Stop after so many epochs without a better validation loss.", low=1
    )
    keep: int | None = option(
        None, "Keep the weights of the newest epochs only, and of the best.", low=1
    )
    save_minutes: float = option(
        10.0, "Minutes between two saves of what {resume} needs.", low=0, open_ends="low"
    )


def device_option() -> Any:
    """Declare the option of where to compute."""
    return option(
        "auto", "Where to compute; auto: on a GPU if there is one.", choices=("auto", "cpu", "gpu")
    )


def unknown_option() -> Any:
    """Declare the option of what to do with characters outside of the vocabulary."""
    return option(
        "error", "At a character that the model has never seen.", choices=("error", "skip")
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a training runs: what it takes to repeat it elsewhere is not in here."""

    run: str | None = option(None, "Folder of the run.  [default: checkpoints/NAME]", metavar="DIR")
    overwrite: bool = option(default=False, help="Replace the run that the folder holds.")
    resume: bool = option(
        default=False, help="Go on with the run that the folder holds; start it if there is none."
    )
    device: str = device_option()
    sample_every: int = option(1, "Epochs between two samples; 0: none.", low=0)
    tensorboard: bool = option(
        default=False, help="Write the losses for TensorBoard as well, into the run's folder."
    )


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """How a text is drawn."""

    prime: str = option("", "Opening text; the model goes on from it.", metavar="TEXT")
    temperature: float = option(
        TEMPERATURE,
        "Below 1 likelier characters, above 1 bolder ones; 0: always the likeliest.",
        low=0,
    )
    top_k: int | None = option(None, "Draw from so many of the likeliest only.", low=1)
    top_p: float | None = option(
        None,
        "Draw from the fewest of the likeliest that reach this probability.",
        low=0,
        high=1,
        open_ends="low",
    )
    min_p: float | None = option(
        None,
        "Draw from those that have this share of the likeliest's probability.",
        low=0,
        high=1,
        open_ends="high",
    )
    seed: int | None = option(
        None, "Start of the random numbers; by default, a fresh one.", low=0, high=SEED_LIMIT - 1
    )


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How a text is scored."""

    batch_size: int | None = option(
        None,
        "Pieces of the text scored side by side, which is faster; each starts without context.",
        low=1,
    )
    unknown: str = unknown_option()
    per_line: bool = option(default=False, help="Score every line, too, with its line end.")
    device: str = device_option()


RECORDS = (ModelConfig, TrainConfig, RunConfig)  # of a training, and of its saved command line


def preset_for(characters: int) -> str:
    """Return the shipped preset for a training on so many characters."""
    return next(name for name, below in PRESETS.items() if characters < below)


def presets() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(file.name.removesuffix(".toml") for file in _preset_folder().iterdir())


def read_config(name: str, records: Iterable[type]) -> dict[str, Any]:
    """Read a saved command line: a shipped preset by its name, or else a TOML file.

    Raises CharlstmError naming the file and the key for anything the records do not allow.
    """
    path = _preset_folder() / f"{name}.toml" if name in presets() else Path(name)
    shipped = f"shipped configurations are {', '.join(presets())}"
    return read_toml(path, name, records, missing=shipped)


def _preset_folder() -> Any:
    """Find the shipped presets: in the package, or beside ``src`` in a checkout."""
    packaged = resources.files("charlstm") / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"
