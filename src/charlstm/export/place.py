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
FOLDERS = ("saved-model",)  # formats that are no file
SAVED_MODEL = {"saved_model.pb", "fingerprint.pb", "variables", "assets", "assets.extra"}


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
        reason = " ".join(str(error).split())
        raise CharlstmError(f"--format {name}: what it needs does not import: {reason}") from None


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
    """Refuse a place that is taken, or that an artifact of a format cannot take.

    Raises CharlstmError.
    """
    if name == "keras" and path.suffix != ".keras":
        raise CharlstmError(f"{path}: the name must end in .keras, or Keras does not load it")
    with writing(path):
        if os.path.lexists(path) and not overwrite:
            raise CharlstmError(f"{path}: exists already; choose another name, or say --overwrite")
        if name in FOLDERS:
            _check_folder(path, name)


def _check_folder(path: Path, name: str) -> None:
    """Refuse what cannot be a folder of ours: what is in it would be lost."""
    if not os.fsencode(path).decode("utf-8", "ignore") == str(path):
        raise CharlstmError(f"{path}: --format {name} needs a name in UTF-8")
    if path.name in ("", ".."):
        raise CharlstmError(f"{path}: name a folder in it, which will be made")
    if not path.exists():
        if not path.parent.is_dir():
            raise CharlstmError(f"{path}: there is no folder {path.parent}; make it first")
        return
    if not path.is_dir():
        raise CharlstmError(f"{path}: not a folder, so --overwrite leaves it alone")
    strange = sorted({file.name for file in path.iterdir()} - SAVED_MODEL)
    if strange:
        raise CharlstmError(
            f"{path}: holds {strange[0]}, which is not part of a saved model, so --overwrite "
            "leaves it alone"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusals into one line that names the place.

    Raises CharlstmError instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise CharlstmError(f"{path}: cannot be written: {error.strerror or error}") from None


@contextmanager
def placing(path: Path, name: str, *, overwrite: bool) -> Iterator[Path]:
    """Give a name in the same folder to write to, a file's or a folder's; in the end, rename it.

    Whatever is raised before, nothing is left of it, and what was at ``path`` is as it was.

    Raises CharlstmError if nothing can be written there, or if the place was taken meanwhile.
    """
    target = Path(os.path.realpath(path))
    with writing(path):
        temporary = tempfile.TemporaryDirectory(prefix=".charlstm-", dir=target.parent)
    with temporary as folder:
        part = Path(folder) / f"artifact{path.suffix}"
        yield part
        check_place(path, name, overwrite=overwrite)
        with writing(path):
            _sync(part)
            _replace(target, part, Path(folder) / "old")
    sync_folder(target.parent)


def _replace(path: Path, part: Path, old: Path) -> None:
    """Give a part its name; a folder that has it must first be out of the way."""
    if not path.is_dir():
        part.replace(path)
        return
    try:
        path.rename(old)
        part.rename(path)
    except BaseException:  # Ctrl+C between the two as well
        if old.exists() and not path.exists():
            old.rename(path)
        raise


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _sync(part: Path) -> None:
    """Make a file, or a folder with all that is in it, survive a power cut."""
    for path in [part, *part.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _missing(module: str | None) -> str:
    """Return the package of a module that is needed and not installed; else, nothing."""
    return module.replace("_", "-") if module and not find_spec(module) else ""
