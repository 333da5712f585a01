"""Shared by the tests: running the program as a user does, a text, and a run trained on it."""

import contextlib
import gc
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from browser import Browser, browser

from charlstm import cli
from charlstm.architecture import ModelConfig, shapes
from charlstm.export.chromium import chromium_path
from charlstm.network.backend import keras
from charlstm.network.initializers import initial_weights
from charlstm.network.model import CharacterModel, build_model
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary

Run = Callable[..., subprocess.CompletedProcess[bytes]]

# Every axis of the small model has a different size: L 2, U 24, V 27, B 3, T 10.
# A sample after each epoch would take a third of the time of a training.
SMALL = [
    *"--units 24 --layers 2 --batch-size 3 --sequence-length 10 --learning-rate 0.01".split(),
    *"--sample-every 0".split(),
]

LONG_TEXT = "the quick brown fox jumps over the lazy dog\n" * 400

OURS = ("CHARLSTM", "TF_CONFIG", "SLURM_STEP")  # variables that charlstm reads

# As the program does, since it looks for reference cycles in all objects of TensorFlow otherwise.
gc.set_threshold(50_000, 20, 100)
gc.freeze()

# A background job of a shell (&) ignores Ctrl+C, and the processes started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(**more: str) -> dict[str, str]:
    """Return the environment without the variables that set options of the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, **more}


KINDS: list[dict[str, Any]] = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "rnn"},
    {"cell": "rnn", "activation": "relu"},
    {"cell": "lstm", "recurrent_activation": "hard_sigmoid"},
    {"cell": "gru", "recurrent_activation": "hard_sigmoid"},
]
EVERY_CELL = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(kind.values()))


def hard_sigmoid(x: Any) -> Any:
    """Return what it was in Keras 1 and 2."""
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


def new_model(model: ModelConfig, vocab_size: int, batch_size: int) -> CharacterModel:
    """Return a model with the initial weights of seed 1."""
    built = build_model(model, vocab_size, batch_size=batch_size, on_gpu=False)
    built.set_arrays(initial_weights(model, vocab_size, "keras", seed=1))
    return built


def lines_of(stderr: bytes) -> list[str]:
    return stderr.decode().splitlines()


def free_addresses(count: int) -> tuple[str, ...]:
    """Return addresses on this computer that no program listens on."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    return addresses


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "charlstm", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(path)


def interrupt(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> list[str]:
    """Send a signal; check the exit code and that stdout is empty; return the lines of stderr."""
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert out == b""
    assert lines_of(err)[-1] == "charlstm: interrupted"
    assert b"Traceback" not in err
    return lines_of(err)


def shell(folder: Path, command: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command line in bash."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        timeout=120,
        check=False,
    )


def on_a_terminal(
    folder: Path, *arguments: str | Path, typed: Sequence[tuple[str, bytes]] = (), **more: str
) -> tuple[int, str]:
    """Run the program on a terminal; return its exit code and its output.

    ``typed`` holds pairs of a pattern to wait for in the output and the bytes to type then.
    """
    process, terminal = pty.fork()
    if not process:
        os.chdir(folder)
        command = [sys.executable, "-m", "charlstm", *map(str, arguments)]
        os.execve(sys.executable, command, environment(**{"TERM": "xterm", **more}))
    termios.tcsetwinsize(terminal, (25, 100))
    shown, seen, left = b"", 0, list(typed)
    while True:
        ready, _, _ = select.select([terminal], [], [], 120)
        assert ready, shown
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux reports a closed terminal like this
            piece = b""
        if not piece:
            break
        shown += piece
        if left and re.search(left[0][0], shown[seen:].decode("utf-8", "replace"), re.DOTALL):
            seen = len(shown)
            time.sleep(0.1)  # as a person would: readline misses a signal right after a key
            os.write(terminal, left.pop(0)[1])
    os.close(terminal)
    # At Ctrl+C a terminal discards pending output, even in the middle of a character.
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return code, shown.decode("utf-8", "replace")


def outcome(run: Path) -> Any:
    """Return the weights, metrics and history of a run, without times."""
    lines = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    history = [{k: v for k, v in line.items() if k != "clock"} for line in lines]
    files = [read_checkpoint(path) for path in sorted(run.glob("epoch-*.h5"))]
    return history, [(file.metrics, [a.tobytes() for a in file.weights]) for file in files]


def run_here(
    folder: Path, *arguments: str | Path, given: bytes = b"", **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the program in this process, so that TensorFlow is imported only once.

    Its standard streams are redirected to files.
    """
    command = list(map(str, arguments))
    names = {0: "stdin", 1: "stdout", 2: "stderr"}
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in names]
        files[0].write(given)
        files[0].seek(0)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        for name in [name for name in os.environ if name.startswith(OURS)]:
            patch.delenv(name)
        for name, value in more.items():
            patch.setenv(name, value)
        for number, name in names.items():
            if number:
                getattr(sys, name).flush()
            saved = os.dup(number)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, number)
            os.dup2(files[number].fileno(), number)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - the program closes no stream
            patch.setattr(sys, name, stream)
        try:
            code = cli.run(command)
        except Exception:  # noqa: BLE001 - as Python itself does
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = (_content(file) for file in files[1:])
    return subprocess.CompletedProcess(command, code, out, err)


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


@pytest.fixture
def charlstm(tmp_path: Path) -> Run:
    """Run the program in an empty folder, in this process."""
    return partial(run_here, tmp_path)


@pytest.fixture
def charlstm_process(tmp_path: Path) -> Run:
    """Run the program in an empty folder, in a separate process, for tests that need one."""

    def run(
        *arguments: str | Path, given: bytes = b"", **more: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "charlstm", *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**more),
            capture_output=True,
            input=given,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="session")
def text() -> str:
    """Return a generated text with learnable structure, in three scripts."""
    source = random.Random(7)
    words = ["the", "cell", "forgets", "gate", "naïve", "αβγ", "学而时习", "👩\u200d🚀", "e\u0301"]
    return "".join(source.choice(words) + source.choice(" \n") for _ in range(400))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """Return the folder of a run with two epochs and validation."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "words.txt").write_text(text, "utf-8", newline="")
    options = [*SMALL, *"--epochs 2 --log-every 5 --sample-every 1".split()]
    done = run_here(folder, "train", "words.txt", *options)
    (folder / "out").write_bytes(done.stdout)
    (folder / "err").write_bytes(done.stderr)
    assert done.returncode == 0, done.stderr.decode()
    return folder / "checkpoints" / "words"


# Characters that are special in JSON, HTML, terminals or line-based files.
STRANGE = "\0\t\n\r\x1b \"'&,<>\\\x7f\x85\u2028\ufeff\ufffd👩"


@pytest.fixture(scope="session")
def indifferent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a weights file of a model that gives all of STRANGE the same probability."""
    config, vocabulary = ModelConfig(units=3, layers=1), Vocabulary(STRANGE)
    weights = shapes(config, len(vocabulary)).map(lambda shape: np.zeros(shape, np.float32))
    path = tmp_path_factory.mktemp("indifferent") / "a.weights.h5"
    write_checkpoint(path, Checkpoint(1, config, vocabulary, weights))
    return path


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(LONG_TEXT, "utf-8")
    return path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report at the end which tests were skipped for lack of a browser."""
    if not chromium_path():
        terminalreporter.section("no browser")
        terminalreporter.line(
            "The page of charlstm score --html was not tested: there is no Chromium on the PATH "
            "(on Debian: apt-get install chromium)."
        )
