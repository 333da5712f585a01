"""Every option once: name, type, range, default, help; reads and writes them as TOML.

The command line makes its options from these records. Knows no Click and no Keras.
"""

import difflib
import math
import re
import reprlib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from charlstm.errors import CharlstmError

RUNS = Path("checkpoints")  # where trainings make their folders
SEED_LIMIT = 2**32
MAX_LAYERS = 255
# Below how many characters of training each is chosen.
PRESETS = {"small": 300_000, "medium": 20_000_000, "large": math.inf}
LARGEST = 2**63  # of any option: what integers of 64 bits and floats both have
MAX_EPOCHS = 2**24 - 1
MOST_SAMPLES = 2**40
TOML_BYTES = 2**14  # what a hostile file makes tomllib need grows with the square of its size


@dataclass(frozen=True)
class Option:
    """One option: what the command line, a TOML file and an error message need to know."""

    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    low: float = -math.inf
    high: float = math.inf
    open_ends: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    metavar: str = ""
    meaning: str = ""
    short: str = ""
    multiple: bool = False
    required: bool = False

    @property
    def flag(self) -> str:
        """The option as it is typed, for example ``--batch-size``."""
        return "--" + self.name.replace("_", "-")

    @property
    def range(self) -> str:
        """The range in words, empty if there is none."""
        words = []
        if self.low > -math.inf:
            words.append(f"{'above' if 'low' in self.open_ends else 'at least'} {self.low}")
        if self.high < math.inf:
            words.append(f"{'below' if 'high' in self.open_ends else 'at most'} {self.high}")
        return " and ".join(words)

    def problem(self, value: Any) -> str:
        """Say in words what is wrong with a value; empty if nothing is."""
        if value is None and self.optional:
            return ""
        if self.multiple:
            return next(filter(None, map(self._problem, value)), "")
        return self._problem(value)

    def _problem(self, value: Any) -> str:
        accepted = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            return f"must be {_KINDS[self.kind]}, not {reprlib.repr(value)}"
        if isinstance(value, int | float) and not self._in_range(value):
            return f"must be {self.range or 'finite'}, not {reprlib.repr(value)}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}, not {reprlib.repr(value)}"
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            return f"must be {self.meaning or self.metavar}, not {reprlib.repr(value)}"
        return ""

    def _in_range(self, value: float) -> bool:
        above = value > self.low or (value == self.low and "low" not in self.open_ends)
        below = value < self.high or (value == self.high and "high" not in self.open_ends)
        return abs(value) < LARGEST and above and below


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def option(default: Any, help: str, **rest: Any) -> Any:  # noqa: A002 - Click's own name for it
    """Declare a field of a record as an option; ``rest`` are fields of Option.

    With MISSING as its default it is required.
    """
    return field(default=default, metadata={"help": help, **rest})


def options(*records: type) -> list[Option]:
    """Return the options that some records declare, in their order."""
    found = []
    for record in records:
        hints = typing.get_type_hints(record)
        for item in fields(record):
            hint = hints[item.name]
            optional = isinstance(hint, types.UnionType)
            multiple = typing.get_origin(hint) is tuple  # tuple[kind, ...]
            kind = typing.get_args(hint)[0] if optional or multiple else hint
            required = item.default is MISSING
            default = None if required else item.default
            rest = {"multiple": multiple, "required": required, **item.metadata}
            found.append(Option(item.name, kind, optional, default, **rest))
    return found


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: what the weights must fit."""

    cell: str = option("lstm", "What the layers consist of.", choices=("lstm", "gru", "rnn"))
    activation: str | None = option(
        None, "Of cells of --cell rnn; by default, tanh.", choices=("tanh", "relu")
    )
    units: int = option(512, "Units of each layer.", low=1)
    layers: int = option(3, "Recurrent layers.", low=1, high=MAX_LAYERS)
    dropout: float = option(
        0.2, "Share of each layer's outputs dropped in training.", low=0, high=1, open_ends="high"
    )

    def problem(self) -> str:
        """Say in words what does not go together; empty if all does."""
        if self.activation and self.cell != "rnn":
            return f"activation {self.activation} is for cells of kind rnn, not {self.cell}"
        return ""


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
        None, "Epochs that --schedule is made for; by default, --epochs.", low=1, high=MAX_EPOCHS
    )
    decay: float = option(
        0.97, "With --schedule exponential, its factor per epoch.", low=0, high=1, open_ends="low"
    )
    decay_after: int = option(0, "Epochs before the first --decay.", low=0)
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
        1.0, "Largest global norm of the gradients, after --clip-value; 0: no limit.", low=0
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
        10.0, "Minutes between two saves of what --resume needs.", low=0, open_ends="low"
    )


DEVICE = option(
    "auto", "Where to compute; auto: on a GPU if there is one.", choices=("auto", "cpu", "gpu")
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where a training runs: what it takes to repeat it elsewhere is not in here."""

    run: str | None = option(None, "Folder of the run.  [default: checkpoints/NAME]", metavar="DIR")
    overwrite: bool = option(default=False, help="Replace the run that the folder holds.")
    resume: bool = option(
        default=False, help="Go on with the run that the folder holds; start it if there is none."
    )
    device: str = DEVICE
    tensorboard: bool = option(
        default=False, help="Write the losses for TensorBoard as well, into the run's folder."
    )


EPOCH = option(
    "best", "Which of the run's epochs.", pattern=r"best|last|[1-9]\d*", metavar="best|last|N"
)
FILE: dict[str, Any] = {"pattern": r"(?s).+", "metavar": "FILE", "meaning": "a file's name"}
JSON = option(default=False, help="Print JSON, for scripts.")
UNKNOWN = option(
    "error", "At a character that the model has never seen.", choices=("error", "skip")
)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How a text is drawn."""

    prime: str = option("", "Opening text; the model goes on from it.", metavar="TEXT")
    prime_file: str | None = option(
        None, "Take the opening text from a file; -: from standard input.", **FILE
    )
    hide_prime: bool = option(default=False, help="Print only what is drawn.")
    unknown: str = UNKNOWN
    length: str = option(
        "256",
        "Characters to draw; inf: until it is stopped.",
        pattern=r"[0-9]{1,15}|inf",
        metavar="N|inf",
        meaning="a whole number of at most 15 digits, or inf",
    )
    stop: tuple[str, ...] = option(
        (),
        "End before this text is drawn; may be given several times.",
        pattern=r"(?s).+",
        metavar="TEXT",
        meaning="a text of at least one character",
    )
    samples: int = option(
        1, "Texts to draw; above 1, each is printed whole.", low=1, high=MOST_SAMPLES
    )
    separator: str = option("-" * 20, "A line between two texts; '': none.", metavar="TEXT")
    json: bool = option(default=False, help="Print an object of JSON a text, one a line.")
    output: str | None = option(None, "Write to a file, when all is drawn.", **FILE, short="-o")
    color: bool = option(
        default=False, help="On a terminal, shade what is drawn by how much it surprises the model."
    )
    interactive: bool = option(default=False, help="Answer line by line; :help tells more.")
    temperature: float = option(
        1.0, "Below 1 likelier characters, above 1 bolder ones; 0: always the likeliest.", low=0
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
    epoch: str = EPOCH
    device: str = DEVICE

    @property
    def characters(self) -> float:
        """How many characters to draw."""
        return float(self.length)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How a text is scored, and what is shown of it."""

    batch_size: int | None = option(
        None,
        "Pieces of the text scored side by side, which is faster; each starts without context.",
        low=1,
    )
    per_line: bool = option(default=False, help="Score every line, too, with its line end.")
    json: bool = option(default=False, help="Print an object of JSON.")
    html: str | None = option(
        None, "Write a page that shades each character by its surprisal.", **FILE
    )
    unknown: str = UNKNOWN
    epoch: str = EPOCH
    device: str = DEVICE


SMALLER = ("onnx", "litert", "numpy")  # formats of export that have every precision


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What a model becomes, and where."""

    format: str = option(MISSING, "Where it is to run.", choices=("saved-model", "keras", *SMALLER))
    output: str = option(MISSING, "Where it is written.", **{**FILE, "metavar": "PATH"}, short="-o")
    precision: str = option(
        "float32",
        f"Of the stored weights; for {', '.join(SMALLER[:-1])} and {SMALLER[-1]}.",
        choices=("float32", "float16", "int8"),
    )
    check: str | None = option(
        None, "Measure what the model loses on a text; -: on standard input.", **FILE
    )
    overwrite: bool = option(default=False, help="Replace what is there.")
    epoch: str = EPOCH


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """How a run is shown."""

    json: bool = JSON


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What is asked of this computer."""

    require_gpu: bool = option(default=False, help="Exit with 1 if there is no GPU to compute on.")
    json: bool = JSON


def preset_for(characters: int) -> str:
    """Return the shipped configuration for a training on so many characters."""
    return next(name for name, below in PRESETS.items() if characters < below)


def presets() -> list[str]:
    """Return the names of the shipped configurations."""
    return sorted(file.name.removesuffix(".toml") for file in _preset_folder().iterdir())


def read_toml(name: str, records: Iterable[type]) -> dict[str, Any]:
    """Read a saved command line: a shipped preset by its name, or else a TOML file.

    Raises CharlstmError naming the file and the key for anything the records do not allow.
    """
    known = {item.name: item for item in options(*records)}
    values = _parse(name)
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key.replace("-", "_"), known, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
            raise CharlstmError(f"{name}: unknown key {reprlib.repr(key)}{hint}")
        problem = known[key].problem(value)
        if problem:
            raise CharlstmError(f"{name}: {key} {problem}")
    return values


def to_toml(values: Mapping[str, Any]) -> str:
    """Write options as TOML; what is not set is left out."""
    import tomli_w

    return tomli_w.dumps({key: value for key, value in values.items() if value is not None})


def _parse(name: str) -> dict[str, Any]:
    source = _preset_folder() / f"{name}.toml" if name in presets() else Path(name)
    try:
        with source.open("rb") as file:
            content = file.read(TOML_BYTES + 1)
        if len(content) > TOML_BYTES:
            raise CharlstmError(f"{name}: not a saved command line: over {TOML_BYTES:,} bytes")
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also of numbers too long, of nested lists
        raise CharlstmError(f"{name}: not a TOML file: {error}") from None
    except OSError as error:
        raise CharlstmError(
            f"{name}: {error.strerror}; shipped configurations are {', '.join(presets())}"
        ) from None


def _preset_folder() -> Any:
    """Find the shipped configurations: in the package, or beside ``src`` in a checkout."""
    packaged = resources.files("charlstm") / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"
