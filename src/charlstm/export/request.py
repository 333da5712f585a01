"""What an export is asked for, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charlstm.errors import CharlstmError
from charlstm.options import option

if TYPE_CHECKING:  # for real only when a model is exported: numpy
    from charlstm.text.source import Text

SMALLER = ("onnx", "litert", "numpy")  # formats that have every precision
FORMATS = ("saved-model", "keras", *SMALLER)
PRECISIONS = ("float32", "float16", "int8")

# Is told what is being done, of how many characters in all, and that so many more are done.
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a model becomes."""

    format: str = option(MISSING, "Where it is to run.", choices=FORMATS)
    precision: str = option(
        "float32",
        f"Of the stored weights; for {', '.join(SMALLER[:-1])} and {SMALLER[-1]}.",
        choices=PRECISIONS,
    )
    overwrite: bool = option(default=False, help="Replace what is there.")


@dataclass(frozen=True)
class ExportRequest:
    """What a model becomes, and where.

    ``check`` is a text on which is measured what the model loses; its characters that the model
    does not know are left out.
    """

    options: ExportOptions
    path: Path
    check: Text | None = None

    def __post_init__(self) -> None:
        """Refuse a precision that the format does not have.

        Raises CharlstmError.
        """
        if self.options.precision != "float32" and self.options.format not in SMALLER:
            raise CharlstmError(
                f"{self.options.format} is float32", "leave it out", option="precision"
            )


@dataclass(frozen=True)
class Loss:
    """What a model scores on a text, in nats per character, before and after it was exported."""

    before: float
    after: float
    characters: int
    note: str


@dataclass(frozen=True)
class Exported:
    """An artifact that has its name, of ``size`` bytes.

    ``difference`` is how far its numbers and the model's are apart at most, over ``characters``;
    None if its runtime, the package ``missing``, is not installed. ``note`` is what its reader will
    meet.
    """

    path: Path
    size: int
    difference: float | None
    characters: int
    missing: str = ""
    loss: Loss | None = None
    note: str = ""
