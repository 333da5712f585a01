"""The options of a training; those of its model are in ``architecture``.

Knows neither Click nor Keras.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlstm.architecture import ModelConfig
from charlstm.options import option

RUNS = Path("checkpoints")  # the folder that holds the runs
DEMO = "demo"  # name of the preset and of the run for the text that comes with Python
SEED_LIMIT = 2**32
MAX_EPOCHS = 2**24 - 1


def encoding_option(
    help_: str = "Encoding of the text: utf-8, utf-16, gb18030, or any other that Python knows.",
    heading: str = "",
) -> Any:
    """Declare the option that says how a text file is encoded."""
    return option("utf-8", help_, metavar="NAME", heading=heading)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The options that decide the weights of a training, and how often it saves and logs.

    They include how the text is read.
    """

    epochs: int = option(
        20, "Passes over the training text.", low=1, high=MAX_EPOCHS, heading="Training"
    )
    batch_size: int = option(
        32, "Batch size: the text is split into this many parallel lanes.", low=1
    )
    sequence_length: int = option(
        64, "Characters per lane in each step (truncated backpropagation).", low=1
    )
    accumulate: int = option(
        1,
        "Compute a batch as this many groups of lanes, one after the other, to save memory.",
        low=1,
    )
    validation: float = option(
        0.1,
        "Fraction of the text, at its end, held out for validation.",
        low=0,
        high=1,
        open_ends="high",
    )
    calibrate: bool = option(
        default=False,
        help="Divide the logits by the temperature that lowers validation loss most.",
        negatable=True,
    )
    patience: int | None = option(
        None, "Stop early if validation loss has not improved for this many epochs.", low=1
    )
    max_steps: int | None = option(None, "Stop after this many steps in total.", low=1)
    init_from: str | None = option(
        None, "Start from the weights of a trained model (fine-tuning).", metavar="CHECKPOINT"
    )
    initializer: str = option(
        "keras",
        "Initial weights: as in Keras, in Keras of 2016 (larger, each gate by itself), uniform "
        "within 0.08, or normal with standard deviation 0.01.",
        choices=("keras", "keras-2016", "uniform", "normal"),
    )
    precision: str = option(
        "auto",
        "Precision of matrix products; auto: bfloat16 on CPUs that have it, or else float32.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    seed: int = option(1, "Random seed.", low=0, high=SEED_LIMIT - 1)
    optimizer: str = option(
        "adam", "Optimizer.", choices=("adam", "rmsprop", "adagrad", "sgd"), heading="Optimizer"
    )
    learning_rate: float = option(0.002, "Learning rate.", low=0, open_ends="low")
    warmup: int = option(0, "Steps over which the learning rate rises from 0.", low=0)
    schedule: str = option(
        "constant",
        "Learning rate schedule; cosine decays to 2 % of the learning rate.",
        choices=("constant", "cosine", "exponential"),
    )
    schedule_epochs: int | None = option(
        None, "Epochs of {schedule} cosine; by default, {epochs}.", low=1, high=MAX_EPOCHS
    )
    decay: float = option(
        0.97, "Factor per epoch of {schedule} exponential.", low=0, high=1, open_ends="low"
    )
    decay_after: int = option(0, "Epochs before {schedule} exponential sets in.", low=0)
    weight_decay: float = option(0.0, "Decoupled weight decay (AdamW); biases are exempt.", low=0)
    weight_decay_epochs: float | None = option(
        None,
        "Choose {weight_decay} so that it alone shrinks a weight to 1/e in this many epochs.",
        low=0,
        open_ends="low",
    )
    average: float = option(
        0.0,
        "Decay per step of a moving average of the weights, which is validated and saved; 0: off.",
        low=0,
        high=1,
        open_ends="high",
    )
    clip_norm: float = option(1.0, "Clip gradients to this global norm; 0: off.", low=0)
    clip_value: float = option(
        0.0, "Clip each gradient to this absolute value, before {clip_norm}; 0: off.", low=0
    )
    epsilon: float | None = option(
        None, "Epsilon of the optimizer; by default, 1e-7.", low=0, open_ends="low"
    )
    rho: float | None = option(
        None,
        "Decay rate of rmsprop's mean square; by default, 0.9.",
        low=0,
        high=1,
        open_ends="high",
    )
    encoding: str = encoding_option(heading="Text")
    min_count: int = option(
        1, "Characters that occur fewer times share one id, shown as U+FFFD.", low=1
    )
    join: str = option("", "Text between the files, if there are several.", metavar="TEXT")
    records: bool = option(
        default=False,
        help="The text consists of independent records, one per line: shuffle them, and start each "
        "without memory of the others.",
        negatable=True,
    )
    record_separator: str = option(
        "", "Text that separates records, if it is not a line end.", metavar="TEXT"
    )
    include: tuple[str, ...] = option(
        (),
        "Of a folder, read only files whose name or path matches; can be repeated.",
        metavar="PATTERN",
    )
    exclude: tuple[str, ...] = option(
        (), "Of a folder, leave out what matches; can be repeated.", metavar="PATTERN"
    )
    keep: int | None = option(
        None, "Keep the weights of only the newest N epochs and the best.", low=1, heading="Saving"
    )
    save_minutes: float = option(
        10.0, "Minutes between saves of the state for {resume}.", low=0, open_ends="low"
    )
    log_every: int = option(100, "Steps between entries in history.jsonl.", low=1)

    @property
    def separator(self) -> str:
        """What ends each record; empty if the text has none."""
        return self.record_separator or ("\n" if self.records else "")


def device_option() -> Any:
    """Declare the option that chooses the device."""
    return option(
        "auto",
        "Device to compute on; auto: a GPU if there is one.",
        choices=("auto", "cpu", "gpu"),
    )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The options of one run, such as its folder and device; its ``config.toml`` omits them."""

    minutes: float | None = option(
        None,
        "End after about this many minutes: chooses {units} and the number of steps.",
        low=0,
        open_ends="low",
    )
    sample_every: int = option(1, "Epochs between samples; 0: no samples.", low=0)
    tensorboard: bool = option(default=False, help="Also write event files for TensorBoard.")
    run: str | None = option(
        None,
        "Folder of the run; by default, checkpoints/ and the name of the text.",
        metavar="DIR",
        heading="Run",
    )
    cache: str | None = option(
        None,
        "Folder for encoded texts, which runs share; by default, each run has its own.",
        metavar="DIR",
    )
    resume: bool = option(default=False, help="Continue the run in its folder, or start it.")
    overwrite: bool = option(default=False, help="Replace the run in its folder.")
    device: str = device_option()
    replicas: int | None = option(
        None, "GPUs to train on, which share each batch; by default, all that are visible.", low=1
    )
    start_timeout: float = option(
        300.0, "Seconds to wait for the other workers of a cluster.", low=0, open_ends="low"
    )


TRAIN_OPTIONS = (
    ModelConfig,
    TrainConfig,
    RunConfig,
)  # the options of a training, on the command line and in TOML
