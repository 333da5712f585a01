"""The destination of an export: its path, replaced atomically, and the packages it requires."""

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from charlstm import files, folders
from charlstm.errors import CharlstmError, one_line
from charlstm.files import write_errors

# The optional packages for writing a format, and for running it.
WRITERS = {"onnx": "onnx", "litert": "ai_edge_litert"}
RUNTIMES = {**WRITERS, "onnx": "onnxruntime"}
FOLDERS = ("saved-model",)  # formats that are a folder, not a file
SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}
NOT_REPLACED = "so it is not replaced"


def format_module(name: str) -> Any:
    """Return the module of a format."""
    with importing(name):
        return importlib.import_module(f"charlstm.export.{name.replace('-', '_')}")


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Turn an ImportError of an installed but broken package into a one-line error.

    Raises CharlstmError.
    """
    try:
        yield
    except ImportError as error:
        raise CharlstmError(
            f"cannot import the packages for {name}: {one_line(error)}", option="format"
        ) from None


def missing_runtime(name: str, *, check: bool) -> str:
    """Return the missing package that runs a format; empty if none is missing.

    Raises CharlstmError if the package that writes the format is missing, or if ``check`` requires
    the one that runs it and that is missing.
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
    """Return whether TensorFlow would read the path of a saved model as a glob pattern."""
    return bool(set("*?[]\\") & set(str(path.absolute())))


def check_destination(path: Path, name: str, *, overwrite: bool) -> None:
    """Raise CharlstmError if the path exists, or is not valid for the format."""
    if name == "keras" and path.suffix != ".keras":
        raise CharlstmError(f"{path}: the name must end in .keras, or Keras cannot load the file")
    with write_errors(path):
        if name in FOLDERS:
            _check_name(path, name)
            folders.recover_folder(Path(os.path.realpath(path)))
        if os.path.lexists(path) and not overwrite:
            raise CharlstmError(
                f"{path}: already exists", "choose another name, or replace it with {overwrite}"
            )
        if name in FOLDERS:
            _check_folder(path)


def _check_name(path: Path, name: str) -> None:
    """Raise CharlstmError if a folder cannot be created under this name."""
    if not os.fsencode(path).decode("utf-8", "ignore") == str(path):
        raise CharlstmError(f"{path}: {name} needs a name in UTF-8")
    if path.name in ("", ".."):
        raise CharlstmError(f"{path}: append the name of the folder to create")


def _check_folder(path: Path) -> None:
    """Raise CharlstmError for a folder that is not a saved model: its files would be lost."""
    if not path.exists():
        if not path.parent.is_dir():
            raise CharlstmError(f"{path}: there is no folder {path.parent}", "create it first")
        return
    if not path.is_dir():
        raise CharlstmError(f"{path}: is not a folder, {NOT_REPLACED}")
    strange = sorted({file.name for file in path.iterdir()} - SAVED_MODEL)
    if strange:
        raise CharlstmError(
            f"{path}: contains {strange[0]}, which is not part of a saved model, {NOT_REPLACED}"
        )


@contextmanager
def placing(path: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path in the same folder to write to; at the end, move it to ``path``.

    After an exception, the temporary file or folder is removed and ``path`` is unchanged.

    Raises CharlstmError if the path cannot be written, or if it was created in the meantime.
    """
    target = Path(os.path.realpath(path))
    with ExitStack() as stack:
        with write_errors(path):
            new = stack.enter_context(folders.made_beside(target, path.suffix))
        yield new
        check_destination(path, name, overwrite=overwrite)
        with write_errors(path):
            move = folders.move_folder if name in FOLDERS else files.move_file
            move(new, target)


def _missing(module: str | None) -> str:
    """Return the package of a module if it is required but not installed; else an empty string."""
    return module.replace("_", "-") if module and not find_spec(module) else ""
