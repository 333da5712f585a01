"""The shipped presets, and options files of the user."""

import math
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from charlstm.options import read_toml

# Each preset is for training texts of fewer characters than this.
PRESETS = {"small": 300_000, "medium": 20_000_000, "large": math.inf}


def preset_for(characters: int) -> str:
    """Return the preset for a training text of this many characters."""
    return next(name for name, below in PRESETS.items() if characters < below)


def presets() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(file.name.removesuffix(".toml") for file in _preset_folder().iterdir())


def read_config(name: str, records: Iterable[type]) -> dict[str, Any]:
    """Read options from a shipped preset, by its name, or else from a TOML file.

    Raises CharlstmError naming the file and the key for anything the records do not allow.
    """
    path = _preset_folder() / f"{name}.toml" if name in presets() else Path(name)
    shipped = f"the presets are {', '.join(presets())}"
    return read_toml(path, name, records, missing=shipped)


def _preset_folder() -> Any:
    """Return the folder of the presets: in the package, or beside ``src`` in a checkout."""
    packaged = resources.files("charlstm") / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"
