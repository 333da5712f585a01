"""Where an artifact goes: whole and checked, or not at all; and what must be installed for it."""

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from charlstm import files, folders
from charlstm.errors import CharlstmError, one_line
from charlstm.files import named_refusal

# What writing a format takes beside what charlstm always has, and what running it takes.
WRITERS = {"onnx": "onnx", "litert": "ai_edge_litert"}
RUNTIMES = {**WRITERS, "onnx": "onnxruntime"}
FOLDERS = ("saved-model",)  # formats that are no file
SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}
ALONE = "so what is there is left alone"


def format_module(name: str) -> Any:
    """Return the module of a format."""
    with importing(name):
        return importlib.import_module(f"charlstm.export.{name.replace('-', '_')}")


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Say in one line that what a format needs is there, but broken.

    Raises CharlstmError.
    """
    try:
        yield
    except ImportError as error:
        raise CharlstmError(
            f"what {name} needs does not import: {one_line(error)}", option="format"
        ) from None


def missing_runtime(name: str, *, check: bool) -> str:
    """Return the package that would run a format, empty if it is there.

    Raises CharlstmError if it is not and there is a text to check on, or if what writing takes is
    not installed.
    """
    missing = {
        "format": _missing(WRITERS.get(name)),
        "check": _missing(RUNTIMES.get(name)) if check else "",
    }
    for option, package in missing.items():
        if package:
            problem = f"{name} needs {package}"
            raise CharlstmError(problem, f"pip install 'charlstm[{name}]'", option=option)
    return _missing(RUNTIMES.get(name))


def is_pattern(path: Path) -> bool:
    """Tell whether TensorFlow takes the name of a saved model for a pattern of names."""
    return bool(set("*?[]\\") & set(str(path.absolute())))


def check_destination(path: Path, name: str, *, overwrite: bool) -> None:
    """Refuse a path that is taken, or that an artifact of a format cannot take.

    Raises CharlstmError.
    """
    if name == "keras" and path.suffix != ".keras":
        raise CharlstmError(f"{path}: the name must end in .keras, or Keras does not load it")
    with named_refusal(path):
        if name in FOLDERS:
            _check_name(path, name)
            folders.recover_folder(Path(os.path.realpath(path)))
        if os.path.lexists(path) and not overwrite:
            raise CharlstmError(
                f"{path}: exists already", "choose another name, or say {overwrite}"
            )
        if name in FOLDERS:
            _check_folder(path)


def _check_name(path: Path, name: str) -> None:
    """Refuse a name that no folder of ours can have."""
    if not os.fsencode(path).decode("utf-8", "ignore") == str(path):
        raise CharlstmError(f"{path}: {name} needs a name in UTF-8")
    if path.name in ("", ".."):
        raise CharlstmError(f"{path}: name a folder in it, which will be made")


def _check_folder(path: Path) -> None:
    """Refuse a folder that is not ours: what is in it would be lost."""
    if not path.exists():
        if not path.parent.is_dir():
            raise CharlstmError(f"{path}: there is no folder {path.parent}", "make it first")
        return
    if not path.is_dir():
        raise CharlstmError(f"{path}: not a folder, {ALONE}")
    strange = sorted({file.name for file in path.iterdir()} - SAVED_MODEL)
    if strange:
        raise CharlstmError(
            f"{path}: holds {strange[0]}, which is not part of a saved model, {ALONE}"
        )


@contextmanager
def placing(path: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
    """Give a name in the same folder to write to, a file's or a folder's; in the end, rename it.

    Whatever is raised before, nothing is left of it, and what was at ``path`` is as it was.

    Raises CharlstmError if nothing can be written there, or if the path was taken meanwhile.
    """
    target = Path(os.path.realpath(path))
    with ExitStack() as stack:
        with named_refusal(path):
            new = stack.enter_context(folders.made_beside(target, path.suffix))
        yield new
        check_destination(path, name, overwrite=overwrite)
        with named_refusal(path):
            move = folders.move_folder if name in FOLDERS else files.move_file
            move(new, target)


def _missing(module: str | None) -> str:
    """Return the package of a module that is needed and not installed; else, nothing."""
    return module.replace("_", "-") if module and not find_spec(module) else ""
