"""The JavaScript of an exported page as a step, in Node.js or in Chromium."""

import base64
import json
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.export.artifact import Step
from charlstm.export.chromium import Tab
from charlstm.run.weights import Array

PIECE = 1 << 24  # characters of a page in a message; Chromium takes no longer ones than 100 MB

Run = Callable[[int, bytes], bytes]  # an id, and float32 states -> float32 logits and states


def in_node(node: str, path: Path) -> Step:
    """Return the step of a page in Node.js, in a process that ends with the step.

    Raises CharlstmError when it is called, if the process ends early.
    """
    process = subprocess.Popen(  # noqa: S603 - Node.js from PATH, and our own program
        [node, "-e", _script("html_step.js") + _script("html_node.js"), str(path.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def run(following: int, states: bytes) -> bytes:
        assert process.stdin
        assert process.stdout
        content = np.int32(following).tobytes() + states
        try:
            process.stdin.write(np.int32(len(content)).tobytes() + content)
            process.stdin.flush()
        except BrokenPipeError:
            raise _ended(process) from None
        size = 4 * int.from_bytes(process.stdout.read(4), "little")
        answer = process.stdout.read(size)
        if not size or len(answer) < size:
            raise _ended(process)
        return answer

    step = partial(_step, run)
    weakref.finalize(step, _end, process)
    return step


def in_chromium(chromium: str, path: Path) -> Step:
    """Return the step of a page in Chromium, in a process that ends with the step.

    Raises CharlstmError, also when it is called, if Chromium cannot run it.
    """
    content = path.read_text("utf-8")
    with ExitStack() as stack:
        profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        try:
            tab = stack.enter_context(closing(Tab(chromium, Path(stack.enter_context(profile)))))
            tab.value(_script("html_step.js") + "const pieces = [];")
            for start in range(0, len(content), PIECE):
                tab.value(f"pieces.push({json.dumps(content[start : start + PIECE])})")
            tab.value("const { step, decoded } = pageStep(pieces.join(''));")
        except (EOFError, RuntimeError) as error:
            raise _failed("Chromium", str(error)) from error
        opened = stack.pop_all()

    def run(following: int, states: bytes) -> bytes:
        given = base64.b64encode(states).decode()
        try:
            answer = tab.value(f"encoded(step({following}, new Float32Array(decoded('{given}'))))")
        except (EOFError, RuntimeError) as error:
            raise _failed("Chromium", str(error)) from error
        return base64.b64decode(answer)

    step = partial(_step, run)
    weakref.finalize(step, opened.close)
    return step


def _step(run: Run, ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
    answer = np.frombuffer(
        run(int(ids[0, 0]), b"".join(state.astype("<f4").tobytes() for state in states)), "<f4"
    )
    sizes = [state.size for state in states]
    logits, *after = np.split(answer, answer.size - sum(sizes) + np.cumsum([0, *sizes[:-1]]))
    return logits[None, None], [state[None] for state in after]


def _script(name: str) -> str:
    return (resources.files("charlstm.export") / name).read_text("utf-8")


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
    process.kill()
    process.wait()


def _ended(process: subprocess.Popen[bytes]) -> CharlstmError:
    process.kill()
    _, said = process.communicate()
    return _failed("Node.js", said.decode("utf-8", "replace"))


def _failed(runtime: str, said: str) -> CharlstmError:
    lines = [line for line in said.splitlines() if "Error" in line] or [said.strip()]
    return CharlstmError(f"{runtime} cannot run the page: {lines[0] or 'it ended'}")
