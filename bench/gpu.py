"""Prove charlstm on a GPU: ``python -m bench.gpu > bench/gpu.md``; about eight minutes.

Prints a table with a limit in each row; the exit code is 1 if a row is beyond its limit. With
``--dry-run``, it runs the rows that need no GPU, on the CPU and with small networks: a test of this
program, not of a GPU.
"""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bench.computer import computer
from bench.cudnn import cudnn, pytorch
from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.errors import one_line
from charlstm.network.backend import tf
from charlstm.network.device import Device, select_device
from charlstm.text.windows import Windows
from charlstm.training.loop import Training
from charlstm.training.needs import memory
from charlstm.training.pace import CALLS_BEFORE, seconds_per_step
from charlstm.training.step import Trainer

DRY = "--dry-run" in sys.argv
DEVICE = "cpu" if DRY else "gpu"
V = 65
SIZES = [(32, 4)] if DRY else [(512, 16), (512, 64), (512, 256), (1024, 128)]  # units, batch
SECONDS = 0.2 if DRY else 3.0  # for each speed
STEPS = 20 if DRY else 200
EPOCH = 10 if DRY else 100  # steps of an epoch in the comparisons of runs
TRAIN = f"--config small --units {32 if DRY else 128} --batch-size 16 --dropout 0 --log-every 1"
LENGTH = 300  # characters sampled
OUTSIDE, FORECAST = 0.05, 0.5  # limits
CUDNN = re.compile("cudnn|rnn|lstm|persist", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A line of the table; ``good`` is None if there is no limit."""

    what: str
    found: str
    limit: str = ""
    good: bool | None = None


def main() -> None:
    """Print the table, row by row, so that a failure leaves the rows before it."""
    device = select_device("cpu" if DRY else "gpu")
    print("# A GPU\n")
    print(f"`make gpu`{' with --dry-run: not on a GPU' if DRY else ''}. {device.name}; ", end="")
    print(f"{computer('tensorflow', 'keras')}.\n")
    print("| what | found | limit | |\n| - | - | - | - |")
    good = True
    for part in (_kernels, _agreement, _speeds, _memory, _refusals):
        try:
            for row in part(device):
                good &= row.good is not False
                mark = {True: "good", False: "BAD", None: ""}[row.good]
                print(f"| {row.what} | {row.found} | {row.limit} | {mark} |", flush=True)
        except Exception as error:  # noqa: BLE001 - the other rows are worth having
            traceback.print_exc()
            good = False
            print(f"| {part.__name__[1:]} | {one_line(error)[:200]} | no error | BAD |", flush=True)
    sys.exit(not good)


def _trainer(
    device: Device, units: int, config: TrainConfig, kind: type[Trainer] = Trainer
) -> tuple[Trainer, Windows]:
    windows = Windows(np.zeros(0, np.uint8), config.batch_size, config.sequence_length)
    ids = np.random.default_rng(1).integers(0, V, 40 * windows.step_size + 1).astype(np.uint8)
    config = replace(
        config, precision="float32" if config.precision == "auto" else config.precision
    )
    with device.strategy.scope():
        trainer = kind(ModelConfig(units=units), config, V, on_gpu=device.on_gpu)
    return trainer, replace(windows, ids=ids)


def _kernels(device: Device) -> Iterator[Row]:
    """Look at the kernels that really ran: one of cuDNN a layer, and little besides."""
    for units, batch in SIZES:
        trainer, windows = _trainer(device, units, TrainConfig(batch_size=batch))
        seconds_per_step(trainer, windows, calls=CALLS_BEFORE)
        with tempfile.TemporaryDirectory() as folder:
            tf.profiler.experimental.start(folder)
            seconds_per_step(trainer, windows, calls=2)
            tf.profiler.experimental.stop()
            times = kernel_times(Path(folder))
        ours = sum(time for name, time in times.items() if CUDNN.search(name))
        share = 1 - ours / (sum(times.values()) or 1)
        names = ", ".join(sorted(times, key=lambda name: -times[name])[:3])
        what = f"3 x {units}, batch {batch}: time of kernels outside of cuDNN"
        good = None if DRY else share <= OUTSIDE
        yield Row(what, f"{share:.1%}; longest: {names[:160]}", f"{OUTSIDE:.0%}", good)


def kernel_times(folder: Path) -> dict[str, float]:
    """Return the time of each kernel in a profile, in microseconds; on a CPU, of each operation."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    times: dict[str, float] = {}
    for path in folder.rglob("*.xplane.pb"):
        space = XSpace.FromString(path.read_bytes())
        for plane in space.planes:
            if ("/device:GPU" if not DRY else "CPU") not in plane.name:
                continue
            for line in plane.lines:
                if DRY or line.name.startswith("Stream"):
                    for event in line.events:
                        name = plane.event_metadata[event.metadata_id].name
                        times[name] = times.get(name, 0) + event.duration_ps / 1e6
    return times


def _agreement(_: Device) -> Iterator[Row]:
    """Train on both devices, continue a run of one on the other, and sample on both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng, words = np.random.default_rng(3), ["gate", "cell", "forget", "state", "input"]
        text = " ".join(rng.choice(words, EPOCH * 16 * 64))
        (folder / "t.txt").write_text(text[: EPOCH * 16 * 64 * 10 // 9 + 16])
        cpu = _losses(folder, "cpu", f"--device cpu {TRAIN} --precision float32 --epochs 2")
        gpu = _losses(folder, "gpu", f"--device {DEVICE} {TRAIN} --precision float32 --epochs 2")
        yield _near("losses of the GPU and of the CPU", cpu, gpu, 1e-3)
        half = "bfloat16" if DRY else "float16"
        found = _losses(folder, "half", f"--device {DEVICE} {TRAIN} --precision {half} --epochs 2")
        yield _near(f"losses in {half} and in float32", cpu, found, 3e-2)
        texts = [
            _charlstm(folder, f"sample gpu --length {LENGTH} --temperature 0 --device {kind}")
            for kind in ("cpu", DEVICE)
        ]
        same = texts[0] == texts[1] and len(texts[0]) >= LENGTH
        yield Row(
            f"{LENGTH} characters at temperature 0", "equal" if same else "differ", "equal", same
        )
        for first, then in ((DEVICE, "cpu"), ("cpu", DEVICE), (DEVICE, DEVICE)):
            options = f"{TRAIN} --precision float32"
            _losses(folder, f"{first}-{then}", f"--device {first} {options} --epochs 1 --overwrite")
            more = f"--device {then} {options} --epochs 2 --resume"
            found = _losses(folder, f"{first}-{then}", more)
            yield _near(
                f"losses of a run begun on a {first}, continued on a {then}", cpu, found, 1e-3
            )


def _near(what: str, one: list[float], other: list[float], limit: float) -> Row:
    """Compare losses of steps and of validation."""
    apart = max(abs(a - b) for a, b in zip(one, other, strict=True))
    return Row(f"{what}: largest difference", f"{apart:.1e} nats", f"{limit:g}", apart <= limit)


def _losses(folder: Path, run: str, arguments: str) -> list[float]:
    """Train, and return the loss of each step and the validation loss of each epoch."""
    _charlstm(folder, f"train t.txt --run {run} --sample-every 0 {arguments}")
    lines = map(json.loads, (folder / run / "history.jsonl").read_text().splitlines())
    return [line["loss"] if line["kind"] == "step" else line["valid_loss"] for line in lines]


def _charlstm(folder: Path, arguments: str) -> str:
    """Run the program; return its output."""
    done = _run(folder, arguments)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def _run(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "charlstm", *arguments.split()]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _speeds(device: Device) -> Iterator[Row]:
    """Measure training, what surrounds its steps, and the two kinds of cuDNN's LSTM."""
    for units, batch in SIZES:
        for precision in ("float32", "bfloat16" if DRY else "float16"):
            config = TrainConfig(batch_size=batch, precision=precision)
            trainer, windows = _trainer(device, units, config)
            seconds_per_step(trainer, windows, calls=CALLS_BEFORE)
            step = seconds_per_step(trainer, windows, seconds=SECONDS)
            what = f"3 x {units}, batch {batch}, {precision}: training"
            yield Row(what, f"{windows.step_size / step:,.0f} characters/s")
        if find_spec("torch"):
            rate = pytorch(units, batch, SECONDS, "cpu" if DRY else "cuda")
            yield Row(f"3 x {units}, batch {batch}: PyTorch", f"{rate:,.0f} characters/s")
    idle = TrainConfig(batch_size=16)
    trainer, windows = _trainer(device, 8, idle, Idle)
    seconds_per_step(trainer, windows, calls=CALLS_BEFORE)
    around = seconds_per_step(trainer, windows, seconds=SECONDS)
    yield Row("time around a step", f"{1e6 * around:,.0f} microseconds")
    if not DRY:
        for form in ("V2", "V3", "V3, batch-major", "V3, with lengths"):
            yield Row(
                f"CudnnRNN{form}: forward and backward", f"{1e3 * cudnn(form, SECONDS / 3):.2f} ms"
            )


class Idle(Trainer):
    """Steps that compute nothing: only the input pipeline, the calls and the losses remain."""

    def _replica_step(self, windows: Any, index: Any, rates: Any, _: Any) -> Any:
        return rates[index] + tf.cast(windows[index][0, 0], tf.float32)


def _memory(device: Device) -> Iterator[Row]:
    """Compare the memory of a training with its forecast."""
    for units, batch in SIZES:
        with contextlib.suppress(ValueError):  # on a CPU, TensorFlow does not count
            tf.config.experimental.reset_memory_stats("GPU:0")
        trainer, windows = _trainer(device, units, TrainConfig(batch_size=batch))
        seconds_per_step(trainer, windows, calls=CALLS_BEFORE)
        planned = SimpleNamespace(
            trainer=trainer,
            model=ModelConfig(units=units),
            device=device,
            config=trainer.config,
            windows=windows,
            corpus=SimpleNamespace(vocabulary=range(V)),
        )
        forecast = memory(cast(Training, planned))
        peak = float("nan") if DRY else tf.config.experimental.get_memory_info("GPU:0")["peak"]
        good = None if DRY else abs(peak / forecast - 1) < FORECAST
        what = f"3 x {units}, batch {batch}: peak memory, and as forecast"
        yield Row(
            what, f"{peak / 1e9:.2f} GB, {forecast / 1e9:.2f} GB", f"within {FORECAST:.0%}", good
        )


def _refusals(_: Device) -> Iterator[Row]:
    """Ask for what does not fit: there must be one line, or a training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "t.txt").write_text("the cell forgets " * 90_000)
        for options in ("--sequence-length 70000", "--batch-size 70000", "--units 20000"):
            size = "--layers 1 --batch-size 2 --sequence-length 8 --max-steps 1 --validation 0"
            asked = options.replace("0000", "00") if DRY else options
            done = _run(folder, f"train t.txt --overwrite --device {DEVICE} {size} {asked}")
            lines = [line for line in done.stderr.splitlines() if line.startswith("charlstm: ")]
            good = not done.returncode or (done.returncode == 1 and len(lines) == 1)
            found = lines[-1] if done.returncode and lines else f"exit code {done.returncode}"
            yield Row(f"`{asked}`", found[:200], "trains, or one line", good)


if __name__ == "__main__":
    main()
