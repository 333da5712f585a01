"""Measure every export of a model: ``python -m bench.export CHECKPOINT TEXT``.

The table shows the size of an export, its accuracy, and the speed of its example program. The
example runs in its own process, which imports TensorFlow only for saved-model and keras.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.computer import computer
from bench.race import Spread
from charlstm.export import artifact, check, destination
from charlstm.export.request import FORMATS, PRECISIONS, SMALLER
from charlstm.folders import size
from charlstm.network.device import select_device
from charlstm.run.find import load_checkpoint
from charlstm.run.history import bits_per_char
from charlstm.run.weights import Checkpoint
from charlstm.text.opening import open_once
from charlstm.text.reading import read_ids

NAMES = {"keras": "model.keras", "numpy": "model.npz"}
SAME = 1000  # characters of the greedily generated text
SHORT, LONG = 1, 1001  # characters that an example generates
ROUNDS = 5


def main() -> None:
    """Print the table."""
    weights, text = sys.argv[1:]
    select_device("cpu")
    _, model = load_checkpoint(weights)
    ids, _ = read_ids(open_once(text), model.vocabulary, "skip")
    loss = bits_per_char(check.model_nats(model, ids, lambda _: None))
    subject = Subject(model, ids, _likeliest(model), loss)
    packages = ("tensorflow", "keras", "onnxruntime", "ai-edge-litert", "numpy")
    config = model.model
    print("# Exports\n")
    print("`make exports CHECKPOINT=checkpoints/input TEXT=text`:", end=" ")
    print(f"{config.layers} x {config.cell}({config.units}), {len(model.vocabulary)} distinct")
    print(f"characters, {loss:.4f} bits per character on {len(ids) - 1:,} characters of a text.")
    print(f"{computer(*packages)}.\n")
    print("- max difference: of a logit or a state from the model's, with the same stored weights")
    print(f"- same text: whether the {SAME:,} characters generated at temperature 0 are those of")
    print("  the float32 model")
    print(f"- characters/s, start-up: of the format's program in examples/, {ROUNDS} rounds")
    print("- change in bits: per character of the text\n")
    print("| format | precision | MB | max difference | same text", end=" ")
    print("| characters/s | start-up, s | change in bits |")
    print("| - | - | - | - | - | - | - | - |")
    for form in FORMATS:
        for precision in PRECISIONS if form in SMALLER else PRECISIONS[:1]:
            cells = _measure(subject, form, precision)
            print("| " + " | ".join([form, precision, *cells]) + " |", flush=True)


@dataclass(frozen=True)
class Subject:
    """The model to export, the ids of a text, and the original model's results.

    ``likeliest`` are the ids that it generates at temperature 0, ``bits`` its bits per character
    on the text.
    """

    model: Checkpoint
    ids: NDArray[np.int32]
    likeliest: list[int]
    bits: float


def _measure(subject: Subject, form: str, precision: str) -> Iterator[str]:
    """Yield the remaining cells of a table row."""
    model = subject.model
    made, module = artifact.make(model, precision), destination.format_module(form)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAMES.get(form, "model")
        module.write(made, path)
        yield f"{size(path) / 1e6:.2f}"
        found = check.compare(module.load(path), made, characters=SAME)
        yield f"{found.difference:.1e}"
        step, states = module.load(path), artifact.zero_state(model.model)
        yield "yes" if _written(step, states, subject.likeliest) == subject.likeliest else "no"
        starts, rates = [], []
        for _ in range(ROUNDS):
            short, long = (_run(form, path, model, length) for length in (SHORT, LONG))
            starts.append(short)
            rates.append((LONG - SHORT) / (long - short))
        yield Spread(rates).show(",.0f")
        yield Spread(starts).show(".2f")
        step = module.load(path)
        nats = check.step_nats(step, states, subject.ids, module.WINDOW, lambda _: None)
        yield f"{round(bits_per_char(nats) - subject.bits, 4) + 0:+.4f}"


def _likeliest(model: Checkpoint) -> list[int]:
    """Return the ids that the float32 model generates at temperature 0."""
    with tempfile.TemporaryDirectory() as folder:
        made, module = artifact.make(model, "float32"), destination.format_module("numpy")
        module.write(made, Path(folder) / "model.npz")
        step = module.load(Path(folder) / "model.npz")
    return _written(step, artifact.zero_state(model.model), [0] * SAME)


def _written(step: artifact.Step, states: list[Any], like: list[int]) -> list[int]:
    """Generate ids at temperature 0, with the first id and the length of ``like``."""
    ids = like[:1]
    while len(ids) < len(like):
        logits, states = step(np.array([ids[-1:]], np.int32), states)
        ids.append(int(logits[0, 0].argmax()))
    return ids


def _run(form: str, path: Path, model: Checkpoint, length: int) -> float:
    """Return the seconds that an example takes to generate ``length`` characters."""
    example = Path(__file__).parents[1] / "examples" / f"sample_{form.replace('-', '_')}.py"
    prime = model.vocabulary.characters[0]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, example, path, prime, "1", str(length)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
