"""Measure several processes beside one: ``python -m bench.scaling > bench/scaling.md``.

The processes run on this computer, each on a core of its own, and talk over its loopback interface.
With arguments, this module is one of them.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from bench.computer import computer
from charlstm.architecture import ModelConfig, parameters
from charlstm.cluster import cluster_of
from charlstm.config import TrainConfig
from charlstm.network.device import select_device
from charlstm.text.windows import Windows
from charlstm.training.pace import CALLS_BEFORE, seconds_per_step
from charlstm.training.step import make_trainer

REPLICATED = Path(__file__).parents[1] / "tests/replicated.py"
LOOPBACK = Path("/proc/net/dev")
MODELS = ((256, 16), (512, 32))  # units, lanes of each process
CALLS = 15  # calls of the compiled steps that are measured
FLOAT = 4  # bytes
V = 65
COUNTS = (2, 4, 8)

# Forecast for GPUs: published figures, and one assumption.
TFLOPS = 156e12  # A100, TF32 with tensor cores (NVIDIA A100 datasheet, 2020)
USED = 0.2  # of these, by cuDNN's LSTM: assumed
LINKS = {  # name: bytes/s of an all-reduce, seconds of latency for each of its 2 (n - 1) messages
    "NVLink, one host": (230e9, 5e-6),  # DGX A100, NCCL: 230 GB/s bus bandwidth (NVIDIA, 2020)
    "100 Gbit/s Ethernet": (11e9, 30e-6),  # 12.5 GB/s less its headers
    "10 Gbit/s Ethernet": (1.1e9, 50e-6),
}


def main() -> None:
    """Print the tables, or be one of the processes."""
    if len(sys.argv) > 1:
        print(json.dumps(work(*map(int, sys.argv[1:]))))
        return
    print("# Several processes\n")
    print(f"`make scaling`. {computer('tensorflow', 'keras')}; processes talk over 127.0.0.1.\n")
    _same_result()
    measured = _weak_scaling()
    _forecast(*measured)


def _same_result() -> None:
    """Compare 50 steps of several processes with one."""
    print("## The same result\n")
    print("50 steps in float32 without dropout, beside one process: the largest difference of")
    print("losses and of gradients' norms, each relative, and of weights, relative to the largest")
    print("weight of their matrix. With Adam, the norms are those of its changes.\n")
    _row("workers x replicas", "groups", "optimizer", "losses", "norms", "weights")
    _row(*"------")
    for optimizer in ("sgd", "adam"):
        alone = replicated(1, 1, 1, optimizer)
        for workers, replicas, groups in ((1, 1, 2), (1, 1, 4), (1, 2, 1), (2, 1, 1), (2, 2, 1)):
            found = replicated(workers, replicas, groups, optimizer)
            losses, norms = (
                np.max(np.abs(found[name] / alone[name] - 1)) for name in ("losses", "norms")
            )
            weights = max(
                np.abs(found[name] - array).max() / np.abs(array).max()
                for name, array in alone.items()
                if name.startswith("weights/")
            )
            cells = (f"{value:.0e}" for value in (losses, norms, weights))
            _row(f"{workers} x {replicas}", groups, optimizer, *cells)
    print()


def replicated(workers: int, replicas: int, groups: int, optimizer: str) -> dict[str, Any]:
    """Run 50 steps in so many processes; return what the chief saved."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.npz"
        arguments = [REPLICATED, output, replicas, groups, optimizer, 0]
        _all(workers, [str(argument) for argument in arguments])
        return dict(np.load(output))


def _weak_scaling() -> tuple[float, float]:
    """Compare two processes with one, at the same number of lanes for each process.

    Returns the seconds of an all-reduce that do not depend on its size, and those per byte.
    """
    print("## Weak scaling\n")
    print("Each process has a core and the same number of lanes. Exchanged: bytes that a process")
    print("sends in a step, counted by the kernel, and 4 bytes for each parameter.\n")
    _row("model", "lanes each", "1 process", "2 processes", "efficiency", "exchanged", "all-reduce")
    _row(*"-------")
    points = []
    for units, lanes in MODELS:
        alone, together = (
            _all(count, ["-m", "bench.scaling", str(units), str(lanes)]) for count in (1, 2)
        )
        one, two = alone["characters"], together["characters"]
        sent, size = together["bytes"] / 2, FLOAT * together["parameters"]
        points.append((size, together["all-reduce"]))
        _row(
            f"3 x LSTM({units})",
            lanes,
            f"{one:,.0f} characters/s",
            f"{two:,.0f}",
            f"{two / one / 2:.0%}",
            f"{sent / 1e6:.1f} MB of {size / 1e6:.1f}",
            f"{1e3 * together['all-reduce']:.1f} ms",
        )
    print()
    (small, quick), (large, slow) = points
    rate = max(0.0, (slow - quick) / (large - small))
    return max(0.0, quick - rate * small), rate


def _forecast(latency: float, rate: float) -> None:
    """Print the step time against the number of replicas, from compute + all-reduce."""
    print("## Forecast\n")
    print("Time of a step = computing + all-reduce. A ring of n replicas sends 2 (n - 1) / n times")
    print("the gradients through each link, in 2 (n - 1) messages (Patarasu and Yuan 2009).")
    print(f"Computing: 6 operations for each parameter and character, at {USED:.0%} of the")
    print(f"{TFLOPS / 1e12:.0f} TFLOP/s of an A100 (TF32; the share is an assumption). All-reduce:")
    print(
        "230 GB/s of NVLink (NVIDIA, DGX A100), 11 and 1.1 GB/s of Ethernet. The 1st figure: times"
    )
    print("as fast as one with the same batch; the 2nd: with a batch n times as large.\n")
    _row("model, batch", "link", *(f"{n} replicas" for n in COUNTS))
    _row(*"-" * (2 + len(COUNTS)))
    for units, batch in ((512, 64), (512, 512), (1024, 512)):
        size = parameters(ModelConfig(units=units), V)
        compute = 6 * size * batch * 64 / (USED * TFLOPS)
        for name, (bandwidth, delay) in LINKS.items():
            cells = []
            for n in COUNTS:
                reduce = 2 * (n - 1) / n * FLOAT * size / bandwidth + 2 * (n - 1) * delay
                strong, weak = compute / (compute / n + reduce), n * compute / (compute + reduce)
                cells.append(f"{strong:.2f}, {weak:.2f}")
            _row(f"3 x LSTM({units}), {batch}", name, *cells)
    print(
        "\nAs measured here, over the loopback interface: an all-reduce between two processes takes"
    )
    print(
        f"{1e3 * latency:.1f} ms and {1e9 * rate:.2f} ms for each MB. Published: character models"
    )
    print("of Baidu were 6.7 times as fast on 8 times the GPUs (Language Modeling at Scale, 2018).")


def _row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _all(workers: int, command: list[str]) -> dict[str, Any]:
    """Run a command in so many processes, each on its own core; return what the chief prints."""
    processes = []
    addresses = list(_free_addresses(workers))
    for index in range(workers):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task} if workers > 1 else {}
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(index), sys.executable, *command],
            env={**os.environ, "TF_CONFIG": json.dumps(config)},
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{command} failed")
    result: dict[str, Any] = json.loads(outputs[0].strip() or "{}")
    return result


def _free_addresses(count: int) -> Iterator[str]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    for server in servers:
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.close()


def work(units: int, lanes: int) -> dict[str, float]:
    """Train as one of the processes; return the speed of all together, and what they exchange."""
    device = select_device("cpu", 1, cluster_of(os.environ))
    config = TrainConfig(batch_size=lanes * device.replicas, precision="float32")
    ids = np.random.default_rng(1).integers(0, V, 50 * config.batch_size * 64).astype(np.uint8)
    windows = Windows(ids, config.batch_size, config.sequence_length)
    model = ModelConfig(units=units)
    trainer = make_trainer(model, config, V, device)
    seconds_per_step(trainer, windows, calls=CALLS_BEFORE)
    before = _bytes_sent()
    step = seconds_per_step(trainer, windows, calls=CALLS)
    sent = (_bytes_sent() - before) / (CALLS * trainer.steps_per_call)
    gradients = np.zeros(parameters(model, V), np.float32)
    trainer.workers.total(gradients)
    began = monotonic()
    for _ in range(CALLS):
        trainer.workers.total(gradients)
    return {
        "characters": windows.step_size / step,
        "bytes": sent,
        "parameters": len(gradients),
        "all-reduce": (monotonic() - began) / CALLS,
    }


def _bytes_sent() -> int:
    """Return the bytes that have passed the loopback interface."""
    (line,) = (line for line in LOOPBACK.read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split()[1])


if __name__ == "__main__":
    main()
