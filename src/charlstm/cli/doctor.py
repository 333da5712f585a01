"""``charlstm doctor``."""

import json
import platform
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from charlstm.cli._options import json_option, options_of
from charlstm.cli._versions import version_of
from charlstm.config import RUNS
from charlstm.errors import CharlstmError
from charlstm.hardware import (
    has_gpu_driver,
    named_cores,
    processor,
    usable_cores,
    usable_memory,
)
from charlstm.options import option, record_of
from charlstm.version import __version__

NEEDED = ("keras", "tensorflow", "numpy", "h5py", "click", "matplotlib", "tqdm", "tomli-w")
OPTIONAL = ("tensorboard", "onnxruntime", "ai-edge-litert")
FASTEST = {
    "float16": "--precision float16 is faster than float32 on this GPU",
    "bfloat16": "bfloat16, the default here, is faster than float32 on this processor",
    "float32": "float32 is the fastest on this processor",
}


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """What to check, and how to print it."""

    require_gpu: bool = option(default=False, help="Exit with code 1 if TensorFlow finds no GPU.")
    json: bool = json_option()


@click.command()
@options_of(DoctorConfig)
def doctor(**values: Any) -> None:
    """Check this computer: versions, GPU, memory, disk.

    Shows which device charlstm will use, whether LSTM layers run on cuDNN there, and which
    precision is fastest.

    \b
    charlstm doctor
    charlstm doctor --require-gpu && charlstm train input.txt
    """
    config = record_of(DoctorConfig, values)
    facts = _software() | _computer() | _device()
    if config.json:
        click.echo(json.dumps(facts))
    else:
        # Paths and package names are not broken, so that they can be copied.
        wrapped = textwrap.TextWrapper(
            80, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False
        )
        for label, text in _page(facts):
            click.echo(wrapped.fill(f"{label + ':':11}{text}"))
    if facts["problem"]:
        no_folder = "temporary directory" in facts["problem"]
        mend = "set TMPDIR to a writable folder" if no_folder else "reinstall it"
        raise CharlstmError(f"TensorFlow cannot be used: {facts['problem']}", mend)
    if config.require_gpu and not facts["gpus"]:
        from charlstm.network.device import no_gpu

        raise CharlstmError(*no_gpu(), option="require_gpu")


def _software() -> dict[str, Any]:
    """Return versions; None for packages that are not installed."""
    return {
        "charlstm": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in NEEDED},
        "optional": {name: version_of(name) for name in OPTIONAL},
    }


def _computer() -> dict[str, Any]:
    """Return cores, memory, and the free disk space for runs; sizes in bytes."""
    place = RUNS if RUNS.exists() else Path()
    try:
        with tempfile.TemporaryFile(dir=place):
            writable = True
    except OSError:
        writable = False
    return {
        "cores": usable_cores(),
        "processor": processor(),
        "driver": has_gpu_driver(),
        "memory": usable_memory(),
        "runs": str(RUNS),
        "writable": writable,
        "disk": shutil.disk_usage(place).free,
    }


def _device() -> dict[str, Any]:
    """Return the device that TensorFlow will use, or why it cannot be imported."""
    try:
        from charlstm.network.device import gpu_names, select_device

        device = select_device("auto")
    except Exception as error:  # noqa: BLE001 - any failure belongs in the report
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        return {"problem": problem, "gpus": []}
    return {
        "problem": None,
        "gpus": gpu_names(),
        "device": device.name,
        "cudnn": device.on_gpu,
        "precision": ("float16" if device.on_gpu else "bfloat16" if device.bfloat16 else "float32"),
    }


def _page(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield label and text of each line."""
    missing = [name for name, version in facts["optional"].items() if not version]
    optional = [f"{name} {version}" for name, version in facts["optional"].items() if version]
    yield "charlstm", f"{facts['charlstm']}, Python {facts['python']}, {facts['executable']}"
    yield "platform", facts["platform"]
    yield "packages", ", ".join(f"{n} {v or 'MISSING'}" for n, v in facts["packages"].items())
    yield "optional", ", ".join([*optional, *(f"{name} not installed" for name in missing)])
    yield "processor", f"{facts['processor']}, {named_cores()}"
    yield "memory", f"{facts['memory'] / 1e9:,.1f} GB"
    if not facts["problem"]:
        yield "device", facts["device"]
        if facts["driver"] and not facts["gpus"]:
            yield "GPU", "NVIDIA's driver is installed; pip install 'charlstm[cuda]' for TensorFlow"
        yield (
            "LSTM",
            "cuDNN" if facts["cudnn"] else "charlstm's own kernel for CPUs; cuDNN needs a GPU",
        )
        yield "precision", FASTEST[facts["precision"]]
    state = "is writable" if facts["writable"] else "IS NOT WRITABLE"
    yield "runs", f"{facts['runs']}/ {state}; {facts['disk'] / 1e9:,.1f} GB free"
