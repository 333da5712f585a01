"""Where an artifact goes: whole and checked, or not at all; and what must be installed for it."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from charlstm.checkpoint import sync_folder
from charlstm.errors import CharlstmError

# What writing a format takes beside what charlstm always has, and what running it takes.
WRITERS = {"onnx": "onnx", "litert": "ai_edge_litert"}
RUNTIMES = {**WRITERS, "onnx": "onnxruntime"}
SAVED_MODEL = "saved_model.pb"  # by which TensorFlow knows such a folder


def format_module(name: str) -> Any:
    """Return the module of a format."""
    return importlib.import_module(f"charlstm.export.{name.replace('-', '_')}")


def missing_runtime(name: str, *, check: bool) -> str:
    """Return the package that would run a format, empty if it is there.

    Raises CharlstmError if it is not and there is a text to check on, or if what writing takes is
    not installed.
    """
    missing = {
        f"--format {name}": _missing(WRITERS.get(name)),
        "--check": _missing(RUNTIMES.get(name)) if check else "",
    }
    for needs, package in missing.items():
        if package:
            raise CharlstmError(f"{needs} needs {package}: pip install 'charlstm[{name}]'")
    return _missing(RUNTIMES.get(name))


def check_place(path: Path, name: str, *, overwrite: bool) -> None:
    """Refuse, before the work is done, a place that an artifact of a format cannot take.

    Raises CharlstmError.
    """
    if name == "keras" and path.suffix != ".keras":
        raise CharlstmError(f"{path}: the name must end in .keras, or Keras does not load it")
    try:
        if path.is_symlink() or path.exists():
            _check_old(path, name, overwrite=overwrite)
        elif not path.parent.is_dir():
            raise CharlstmError(f"{path}: there is no folder {path.parent}; make it first")
    except OSError as error:
        raise _unwritable(path, error) from None


def _check_old(path: Path, name: str, *, overwrite: bool) -> None:
    """Refuse to replace what is there: without being told to, or if it is no artifact's like."""
    if not overwrite:
        raise CharlstmError(f"{path}: exists already; choose another name, or say --overwrite")
    folder = name == "saved-model"
    if path.is_symlink() or not (path.is_dir() if folder else path.is_file()):
        raise CharlstmError(
            f"{path}: not a {'folder' if folder else 'file'}, so --overwrite leaves it alone"
        )
    if folder and any(path.iterdir()) and not (path / SAVED_MODEL).is_file():
        raise CharlstmError(f"{path}: not a saved model, so --overwrite leaves it alone")


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give a name in the same folder to write to, a file's or a folder's; in the end, rename it.

    Whatever is raised before, nothing is left of it, and what was at ``path`` is as it was.

    Raises CharlstmError if nothing can be written there.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".charlstm-", dir=path.parent) as folder:
            part = Path(folder) / f"artifact{path.suffix}"
            yield part
            for file in part.rglob("*") if part.is_dir() else [part]:
                if file.is_file():
                    _sync(file)
            _replace(path, part, Path(folder) / "old")
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None


def _replace(path: Path, part: Path, old: Path) -> None:
    """Give a part its name; a folder that has it must first be out of the way."""
    if not path.is_dir():
        part.replace(path)
        return
    path.rename(old)
    try:
        part.rename(path)
    except BaseException:
        old.rename(path)
        raise


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _sync(path: Path) -> None:
    """Make the content of a file survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _unwritable(path: Path, error: OSError) -> CharlstmError:
    return CharlstmError(f"{path}: cannot be written: {error.strerror or error}")


def _missing(module: str | None) -> str:
    """Return the package of a module that is needed and not installed; else, nothing."""
    return module.replace("_", "-") if module and not find_spec(module) else ""
