"""The format html: a page that writes and scores text in a browser, without a network."""

import base64
import json
import re
import shutil
import subprocess
import weakref
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import ModelConfig
from charlstm.errors import CharlstmError
from charlstm.export.artifact import Artifact, Step, Stored
from charlstm.export.numpy import step_of
from charlstm.pages.writer import writer_page
from charlstm.run.weights import Array

WINDOW = 1  # characters per step when an export is measured
NODE = "node"  # runs the page's JavaScript, to check it
ALIGNMENT = 8  # bytes: JavaScript reads an array of numbers only from a multiple of their size
BLOCK = '<script type="{kind}" id="{name}">(.*?)</script>'


def write(artifact: Artifact, path: Path) -> None:
    """Write the page."""
    about = json.loads(artifact.description)
    manifest, weights = _packed(artifact.weights.named())
    model = artifact.model
    title = f"{model.layers} x {model.cell.upper()}({model.units:,}) writes"
    summary = (
        f"Made with charlstm {about['charlstm']}: epoch {about['epoch']}, {about['precision']} "
        "weights. This page needs no network; what you type stays in it."
    )
    path.write_text(writer_page(about, manifest, weights, title, summary), "utf-8")


def load(path: Path) -> Step:
    """Return the step of a page, in Node.js if that is on PATH, or else its twin in numpy."""
    node = shutil.which(NODE)
    return _in_node(node, path) if node else step_of(*_unpacked(path.read_text("utf-8")))


def note() -> str:
    """Return what the check of a page leaves open on this computer, or an empty string."""
    if shutil.which(NODE):
        return ""
    return "Node.js is not on PATH, so its weights were checked in numpy, not its JavaScript"


def _packed(arrays: dict[str, Stored]) -> tuple[list[dict[str, Any]], bytes]:
    """Return the manifest of the arrays, and their bytes."""
    content, manifest = bytearray(), []

    def add(values: NDArray[Any]) -> dict[str, Any]:
        content.extend(bytes(-len(content) % ALIGNMENT))
        entry = {"type": values.dtype.name, "shape": list(values.shape), "offset": len(content)}
        content.extend(values.astype(values.dtype.newbyteorder("<")).tobytes())
        return entry

    for name, stored in arrays.items():
        entry = {"name": name, **add(stored.values)}
        if stored.scales is not None:
            entry["scales"] = add(stored.scales)
        manifest.append(entry)
    return manifest, bytes(content)


def _unpacked(page: str) -> tuple[dict[str, Array], ModelConfig]:
    """Return the float32 arrays of a page, by name, and its model."""
    data = json.loads(_block(page, "application/json", "data"))
    weights = base64.b64decode(_block(page, "text/plain", "weights"))

    def take(entry: dict[str, Any]) -> Array:
        dtype = np.dtype(entry["type"]).newbyteorder("<")
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(weights, dtype, count, entry["offset"])
        return values.reshape(entry["shape"]).astype(np.float32)

    arrays = {
        entry["name"]: take(entry) * (take(entry["scales"]) if "scales" in entry else np.float32(1))
        for entry in data["manifest"]
    }
    return arrays, ModelConfig(**data["about"]["model"])


def _block(page: str, kind: str, name: str) -> str:
    found = re.search(BLOCK.format(kind=kind, name=name), page, re.DOTALL)
    assert found
    return found[1]


def _in_node(node: str, path: Path) -> Step:
    """Return the page's own step, which runs in a process that ends with the step.

    Raises CharlstmError when it is called, if the process ends early.
    """
    script = (resources.files("charlstm.export") / "html_step.js").read_text("utf-8")
    process = subprocess.Popen(  # noqa: S603 - Node.js from PATH, and our own program
        [node, "-e", script, str(path.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        assert process.stdin
        assert process.stdout
        content = [
            np.int32(ids[0, 0]).tobytes(),
            *(state.astype("<f4").tobytes() for state in states),
        ]
        try:
            process.stdin.write(b"".join(content))
            process.stdin.flush()
        except BrokenPipeError:
            raise _failed(process) from None
        size = int.from_bytes(process.stdout.read(4), "little")
        answer = np.frombuffer(process.stdout.read(4 * size), "<f4")
        if not size or len(answer) < size:
            raise _failed(process)
        sizes = [state.size for state in states]
        logits, *after = np.split(answer, size - sum(sizes) + np.cumsum([0, *sizes[:-1]]))
        return logits[None, None], [state[None] for state in after]

    weakref.finalize(step, _end, process)
    return step


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    process.kill()
    process.wait()


def _failed(process: subprocess.Popen[bytes]) -> CharlstmError:
    process.kill()
    _, said = process.communicate()
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if "Error" in line]
    return CharlstmError(f"{NODE} cannot run the page: {next(iter(lines), 'it ended')}")
