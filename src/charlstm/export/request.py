"""The request for an export, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.errors import CharlstmError
from charlstm.options import option

if TYPE_CHECKING:  # imports numpy, so at run time only for an export
    from charlstm.text.source import Text

SMALLER = ("onnx", "litert", "numpy", "html")  # formats that support every precision
FORMATS = ("saved-model", "keras", *SMALLER)
DEFAULTS = {"html": "int8"}  # precision of a format; that of the others is float32
PRECISIONS = ("float32", "float16", "int8")

# Called with the current activity, its total number of characters, and the newly processed ones.
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of an export."""

    format: str = option(MISSING, "Format and runtime of the export.", choices=FORMATS)
    precision: str | None = option(
        None,
        f"Precision of the stored weights, of {', '.join(SMALLER[:-1])} and {SMALLER[-1]}; by "
        "default, float32, of html int8.",
        choices=PRECISIONS,
    )
    overwrite: bool = option(default=False, help="Replace an existing export.")

    @property
    def stored(self) -> str:
        """The precision of the stored weights."""
        return self.precision or DEFAULTS.get(self.format, "float32")


@dataclass(frozen=True)
class ExportRequest:
    """The options of an export, and its path.

    ``check`` is a text to measure the accuracy of the export on; characters outside the vocabulary
    are skipped.
    """

    options: ExportOptions
    path: Path
    check: Text | None = None

    def __post_init__(self) -> None:
        """Raise CharlstmError if the format does not support the precision."""
        if self.options.stored != "float32" and self.options.format not in SMALLER:
            raise CharlstmError(
                f"{self.options.format} supports float32 only", "leave it out", option="precision"
            )


@dataclass(frozen=True)
class Loss:
    """The loss on a text, in nats per character, before and after the export."""

    before: float
    after: float
    characters: int
    note: str


@dataclass(frozen=True)
class Exported:
    """A finished export of ``size`` bytes at ``path``.

    ``difference`` is the largest difference of a logit or a state from the model's, checked on
    ``characters`` characters; it is None if the runtime, the package ``missing``, is not installed.
    ``note`` warns of a problem that users of the export will meet.
    """

    path: Path
    size: int
    difference: float | None
    characters: int
    missing: str = ""
    loss: Loss | None = None
    note: str = ""
