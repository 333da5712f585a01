"""Run all benchmarks and print the results as Markdown: ``python -m bench [TEXT]``."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.computer import computer
from bench.contenders import MODEL, T, read
from bench.race import ROUNDS, Contender, Spread, race, ratio
from charlstm.architecture import parameters
from charlstm.network.device import select_device
from charlstm.training.step import MOST_STEPS_PER_CALL

BATCHES = {16: 8, 64: 2, 128: 1}  # batch size -> steps per round
STREAMS = (1, 16, 64)
TEXT_SIZES = (10, 200)  # MB


def main() -> None:
    """Print the results."""
    text = str(Path(sys.argv[1]).resolve()) if len(sys.argv) > 1 else ""
    vocab_size = len(read(text).vocabulary)
    print("# Results\n")
    print(f"`make bench TEXT=input.txt`: each figure is the median of {ROUNDS} rounds, with the")
    print("minimum and maximum in parentheses, after one warm-up round. Ratios are taken within a")
    print("round. Peak is the measured speed of a large matrix product or, for one stream, of")
    print("reading memory.\n")
    print(f"{computer('tensorflow', 'keras', 'torch')}; ", end="")
    print(f"{MODEL.layers} x LSTM({MODEL.units}), {vocab_size} distinct characters.\n")
    _training(text, vocab_size, "float32")
    if select_device("cpu").bfloat16:
        _training(text, vocab_size, "bfloat16")
    _overhead()
    _generation(vocab_size)
    _start_up()
    _encoding()
    _memory()


def _training(text: str, vocab_size: int, precision: str) -> None:
    print(f"## Training, {precision}, sequence length {T}\n")
    print("| batch size | characters/s | x PyTorch | x Keras script of 2016 | share of peak |")
    print("| - | - | - | - | - |")
    for batch, steps in BATCHES.items():
        keras = {"text": text, "batch": batch, "steps": steps}
        settings = {**keras, "precision": precision}
        rates = race(
            {
                "ours": Contender("train_charlstm", **settings),
                "pytorch": Contender("train_pytorch", **settings),
                "keras": Contender("train_keras", **keras),
                "limit": Contender("product", precision=precision),
            }
        )
        # 6 operations per weight, but the first layer needs no input gradient, which saves 2 of 6.
        weights, first = parameters(MODEL, vocab_size), 4 * MODEL.units * vocab_size
        rates["limit"] = [rate / (6 * weights - 2 * first) for rate in rates["limit"]]
        _row(batch, rates, {"pytorch": ".2f", "keras": ".2f", "limit": ".0%"})
    print()


def _overhead() -> None:
    print("## Overhead of a training step that computes nothing\n")
    print("| steps per call | microseconds per step |")
    print("| - | - |")
    for count in (1, MOST_STEPS_PER_CALL):
        rates = race({"ours": Contender("surround", per_call=count)})["ours"]
        print(f"| {count} | {Spread([1e6 / rate for rate in rates]).show(',.0f')} |", flush=True)
    print()


def _generation(vocab_size: int) -> None:
    print("## Generation, float32\n")
    print("| streams | characters/s | x PyTorch loop | x `predict_on_batch` loop | share of peak |")
    print("| - | - | - | - | - |")
    weights = parameters(MODEL, vocab_size)
    for streams in STREAMS:
        settings = {"streams": streams, "vocab_size": vocab_size}
        alone = streams == 1
        rates = race(
            {
                "ours": Contender("draw_charlstm", **settings),
                "pytorch": Contender("draw_pytorch", **settings),
                "keras": Contender("draw_keras", **settings),
                "limit": Contender("reading", size=4 * weights) if alone else Contender("product"),
            }
        )
        # One stream is bound by memory: it reads every weight for each character. Many streams
        # share the reads, and are bound by arithmetic.
        cost = 4 * weights if alone else 2 * weights
        rates["limit"] = [rate / cost for rate in rates["limit"]]
        _row(streams, rates, {"pytorch": ".1f", "keras": ".1f", "limit": ".0%"})


def _row(first: int, rates: dict[str, list[float]], forms: dict[str, str]) -> None:
    cells = [str(first), Spread(rates["ours"]).show(",.0f")]
    cells += [ratio(rates, "ours", other).show(form) for other, form in forms.items()]
    print(f"| {' | '.join(cells)} |", flush=True)


def _start_up() -> None:
    print("\n## Start-up, in seconds\n")
    with tempfile.TemporaryDirectory() as folder:
        size = f"--units {MODEL.units} --layers {MODEL.layers}"
        quick = f"{size} --max-steps 1 --batch-size 1 --validation 0.001"
        _seconds(["-m", "charlstm", "train", "--demo", *quick.split()], folder)
        commands = {
            "`charlstm sample --length 256`": ["-m", "charlstm", "sample", "--length", "256"],
            "`import tensorflow`": ["-c", "import tensorflow"],
            "`charlstm --help`": ["-m", "charlstm", "--help"],
        }
        rounds = [[_seconds(c, folder) for c in commands.values()] for _ in range(ROUNDS + 1)][1:]
    print("| command | wall time |")
    print("| - | - |")
    for name, times in zip(commands, zip(*rounds, strict=True), strict=True):
        print(f"| {name} | {Spread(list(times)).show('.2f')} |", flush=True)


def _seconds(arguments: list[str], folder: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - started


def _encoding() -> None:
    print("\n## Encoding 100 MB, both passes\n")
    print("| text | MB/s |")
    print("| - | - |")
    kinds = ("ascii", "chinese")
    for kind, rates in race({kind: Contender("encode", kind=kind) for kind in kinds}).items():
        print(f"| {kind} | {Spread([rate / 1e6 for rate in rates]).show('.0f')} |", flush=True)


def _memory() -> None:
    """Measure peak resident memory, without file pages, which the system can drop.

    Linux reports it only for live processes, so it is polled every 20 ms.
    """
    print("\n## Peak memory (anonymous resident set), in MB\n")
    print("| text | encoding | training, 20 steps of the medium model |")
    print("| - | - | - |")
    for size in TEXT_SIZES:
        with tempfile.TemporaryDirectory() as folder:
            text = Path(folder, "input.txt")
            line = b"an ordinary line, and 1 more\n"
            text.write_bytes(line * (size * 10**6 // len(line)))
            encode = "import sys; from bench.contenders import read; read(sys.argv[1])"
            steps = ["--max-steps", "20", "--validation", "0", "--run", "run"]
            commands = [
                ["-c", encode, str(text)],
                ["-m", "charlstm", "train", str(text), "--config", "medium", *steps],
            ]
            cells = [f"{_peak(command, folder) / 1e6:,.0f}" for command in commands]
        print(f"| {size} MB | {' | '.join(cells)} |", flush=True)


def _peak(arguments: list[str], folder: str) -> int:
    """Return the peak anonymous resident set of a command, in bytes."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        peak, status = 0, Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text("ascii", "replace"))
            peak = max(peak, int(found[1]) * 1024 if found else 0)
            time.sleep(0.02)
    assert process.returncode == 0, arguments
    return peak


if __name__ == "__main__":
    main()
