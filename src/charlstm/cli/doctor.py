"""``charlstm doctor``."""

import json
import os
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from charlstm import __version__
from charlstm.cli.options import options_of, record_of
from charlstm.config import RUNS, DoctorConfig
from charlstm.errors import CharlstmError

NEEDED = ("keras", "tensorflow", "numpy", "h5py", "click", "matplotlib", "tqdm", "tomli-w")
OPTIONAL = ("tensorboard", "onnxruntime", "ai-edge-litert")
PAYS = {
    "float16": "--precision float16 pays: on this GPU it is faster than float32",
    "bfloat16": "--precision bfloat16 pays: this processor multiplies such numbers faster",
    "float32": "float32: this processor multiplies nothing else faster",
}


@click.command()
@options_of(DoctorConfig)
def doctor(**values: Any) -> None:
    """Tell what this computer can do, and what is missing.

    Versions; the device that trainings will run on, and whether LSTM layers use cuDNN there; the
    precision that pays; memory, and room for runs under checkpoints/.

    \b
    charlstm doctor
    charlstm doctor --require-gpu && charlstm train input.txt
    """
    config = record_of(DoctorConfig, values)
    found = _software() | _computer() | _device()
    if config.json:
        click.echo(json.dumps(found))
    else:
        # What is copied from here, a path or a package, stays in one piece.
        wrapped = textwrap.TextWrapper(
            80, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False
        )
        for label, text in _page(found):
            click.echo(wrapped.fill(f"{label + ':':11}{text}"))
    if found["problem"]:
        raise CharlstmError(f"TensorFlow cannot be used: {found['problem']}; install it anew")
    if config.require_gpu and not found["gpus"]:
        from charlstm.backend import NO_GPU

        raise CharlstmError(f"--require-gpu: {NO_GPU}")


def _software() -> dict[str, Any]:
    """Return versions; None for what is not installed."""
    return {
        "charlstm": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in NEEDED},
        "optional": {name: _version(name) for name in OPTIONAL},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _computer() -> dict[str, Any]:
    """Return cores, memory, and the disk that runs go to; sizes in bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    place = RUNS if RUNS.exists() else Path()
    try:
        with tempfile.TemporaryFile(dir=place):
            writable = True
    except OSError:
        writable = False
    return {
        "cores": os.cpu_count(),
        "memory": page * os.sysconf("SC_PHYS_PAGES"),
        "runs": str(RUNS),
        "writable": writable,
        "disk": shutil.disk_usage(place).free,
    }


def _device() -> dict[str, Any]:
    """Return what TensorFlow will compute on; if it cannot be imported, why."""
    try:
        from charlstm import backend

        device = backend.select_device("auto")
    except Exception as error:  # noqa: BLE001 - whatever is broken is what is asked for
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        return {"problem": problem, "processor": platform.processor(), "gpus": []}
    gpus = backend.tf.config.list_physical_devices("GPU")
    details = map(backend.tf.config.experimental.get_device_details, gpus)
    return {
        "problem": None,
        "processor": backend.processor(),
        "gpus": [found.get("device_name", "unknown") for found in details],
        "device": device.name,
        "cudnn": device.cudnn,
        "precision": ("float16" if device.cudnn else "bfloat16" if device.bfloat16 else "float32"),
    }


def _page(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield label and text of each line."""
    missing = [name for name, version in found["optional"].items() if not version]
    optional = [f"{name} {version}" for name, version in found["optional"].items() if version]
    yield "charlstm", f"{found['charlstm']}, Python {found['python']}, {found['executable']}"
    yield "platform", found["platform"]
    yield "packages", ", ".join(f"{n} {v or 'MISSING'}" for n, v in found["packages"].items())
    yield "optional", ", ".join([*optional, *(f"{name} not installed" for name in missing)])
    yield "processor", f"{found['processor']}, {found['cores']} cores"
    yield "memory", f"{found['memory'] / 1e9:,.1f} GB"
    if not found["problem"]:
        yield "device", found["device"]
        yield (
            "LSTM",
            "cuDNN's" if found["cudnn"] else "charlstm's own for CPUs; cuDNN's needs a GPU",
        )
        yield "precision", PAYS[found["precision"]]
    state = "can be written" if found["writable"] else "CANNOT BE WRITTEN"
    yield "runs", f"{found['runs']}/ {state}; {found['disk'] / 1e9:,.1f} GB free"
