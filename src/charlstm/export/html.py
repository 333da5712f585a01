"""The format html: a page that writes and scores text in a browser, without a network."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import ModelConfig
from charlstm.export.artifact import Artifact, Step, Stored
from charlstm.export.chromium import chromium_path
from charlstm.export.javascript import in_chromium, in_node
from charlstm.export.numpy import step_of
from charlstm.pages.writer import writer_page
from charlstm.run.weights import Array

WINDOW = 1  # characters per step when an export is measured
NODE = "node"  # the program's name
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
    """Return the step of a page, in Node.js or Chromium if on PATH, or else its twin in numpy."""
    if node := shutil.which(NODE):
        return in_node(node, path)
    if chromium := chromium_path():
        return in_chromium(chromium, path)
    return step_of(*_unpacked(path.read_text("utf-8")))


def note() -> str:
    """Return what the check of a page leaves open on this computer, or an empty string."""
    if shutil.which(NODE) or chromium_path():
        return ""
    return (
        "neither Node.js nor Chromium is on PATH, so its weights were checked in numpy, not its "
        "JavaScript"
    )


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
