"""Streams whose other end goes away, and control characters on a terminal."""

import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    SMALL,
    STRANGE,
    Run,
    environment,
    interrupt,
    lines_of,
    on_a_terminal,
    start,
    wait_for,
)

from charlstm import cli
from charlstm.cli._stdio import open_streams
from charlstm.run.find import load_checkpoint
from charlstm.text.display import visible

CHARLSTM = f"{shlex.quote(sys.executable)} -m charlstm"


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a bash command in which ``charlstm`` is the program."""
    return subprocess.run(
        ["bash", "-c", f'charlstm() {{ {CHARLSTM} "$@"; }}; {command}'],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )


Redirect = Callable[[int, int], None]


@pytest.fixture
def redirect(monkeypatch: pytest.MonkeyPatch) -> Redirect:
    """Redirect a stream of the program in this process, and open its streams as ``main`` does."""
    run = cli.run

    def redirect(number: int, target: int) -> None:
        def redirected(command: Sequence[str] | None = None) -> int:
            os.dup2(target, number)
            os.close(target)
            open_streams()
            return run(command)

        monkeypatch.setattr(cli, "run", redirected)

    return redirect


TRAIN = f"charlstm train words.txt {' '.join(SMALL)} --epochs 2"


def test_a_lost_log_costs_only_the_messages(words: Path) -> None:
    done = shell(words.parent, f"{TRAIN} 2> >(head -n 3 >/dev/null)")
    assert done.returncode == 0
    assert done.stdout == b"checkpoints/words/epoch-002.weights.h5\n"
    assert load_checkpoint(str(words.parent / "checkpoints/words"))[1].epoch == 2


def test_a_terminal_that_closes_costs_only_the_messages(words: Path) -> None:
    """If SIGHUP is ignored, as under nohup, writing to the closed terminal fails with EIO."""
    terminal, side = os.openpty()
    train = f"{CHARLSTM} train words.txt {' '.join(SMALL)} --epochs 9"
    process = subprocess.Popen(
        ["bash", "-c", f"trap '' HUP; exec {train}"],
        cwd=words.parent,
        env=environment(),
        stdin=side,
        stdout=subprocess.PIPE,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    seen = b""
    while b"epoch 1/9" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said == b"checkpoints/words/epoch-009.weights.h5\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "command", ["sample RUN --prime the --length 3 --seed 1", "score RUN RUN/../../words.txt"]
)
def test_a_full_standard_error_changes_nothing_else(
    command: str, trained: Path, charlstm: Run, redirect: Redirect
) -> None:
    line = command.replace("RUN", str(trained))
    normal = charlstm(*line.split())
    redirect(2, os.open("/dev/full", os.O_WRONLY))
    full = charlstm(*line.split())
    assert normal.stderr
    assert (full.returncode, full.stdout, full.stderr) == (0, normal.stdout, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_standard_error_does_not_change_the_exit_code(tmp_path: Path) -> None:
    """In a process of its own: Python flushes the stream once more when it exits."""
    assert shell(tmp_path, "charlstm show none 2>/dev/full").returncode == 1


def test_a_stopped_training_without_a_reader_saves_and_exits_with_its_signal(words: Path) -> None:
    """SIGUSR1 is what schedulers send before the end."""
    process = start(words.parent, "train", words, *SMALL, "--epochs", "9999")
    wait_for(words.parent / "checkpoints/words/epoch-001.weights.h5", process)
    assert process.stderr
    process.stderr.close()
    process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 128 + signal.SIGUSR1
    assert load_checkpoint(str(words.parent / "checkpoints/words"), "last")


def test_a_training_that_cannot_print_its_path_is_an_error(
    words: Path, charlstm: Run, redirect: Redirect
) -> None:
    """A script would take the empty output for a path; ``sample`` just ends."""
    reading, writing = os.pipe()
    os.close(reading)
    redirect(1, writing)
    done = charlstm("train", words, *SMALL, "--max-steps", "1")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == "charlstm: standard output: Broken pipe"


def test_a_hangup_saves_even_if_it_comes_twice(words: Path) -> None:
    """A closed terminal sends it from the kernel and from the shell."""
    process = start(words.parent, "train", words, *SMALL, "--epochs", "9999")
    wait_for(words.parent / "checkpoints/words/resume.weights.h5", process)
    process.send_signal(signal.SIGHUP)
    assert process.stderr
    while b"stopping" not in process.stderr.readline():
        pass
    lines = interrupt(process, signal.SIGHUP)
    assert any(line.startswith("saved; continue with: ") for line in lines)


def test_control_characters_become_visible() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\0\x1b[2J\r\x7f") == "\u2400\u241b[2J\u240d\u2421"
    assert visible("\x9b31m\x85") == "\\x9b31m\\x85"
    assert visible("\u202eabc\u2066") == "\\u202eabc\\u2066"
    script = "👩\u200d🚀 e\u0301 学"
    assert visible(script) == script


def test_control_characters_are_visible_on_a_terminal_and_unchanged_in_a_pipe(
    indifferent: Path, charlstm: Run, tmp_path: Path
) -> None:
    options = ["--prime", STRANGE[1:], *"--length 200 --seed 1".split()]
    raw = charlstm("sample", indifferent, *options).stdout.decode()
    assert raw.startswith(STRANGE[1:])
    _, shown = on_a_terminal(tmp_path, "sample", indifferent, *options)
    assert visible(raw) in shown.replace("\r\n", "\n")
    assert "\x1b" not in shown


def test_a_log_of_a_training_has_no_control_characters(charlstm: Run, tmp_path: Path) -> None:
    (tmp_path / "a\x1b]2;title\x07.txt").write_text("\x1b[2J\x07\r\n" * 200, "utf-8", newline="")
    done = charlstm("train", "a\x1b]2;title\x07.txt", *SMALL, "--epochs", "1")
    assert done.returncode == 0, done.stderr.decode()
    assert not {chr(c) for c in range(32)} - {"\n"} & set(done.stderr.decode())
    assert "\u241b" in done.stderr.decode()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_dash_means_standard_output(
    name: str, trained: Path, charlstm: Run, redirect: Redirect, tmp_path: Path
) -> None:
    """With ``>>`` in a shell, the text is appended to the file."""
    command = ["sample", trained, *"--prime the --length 9 --seed 1".split()]
    text = charlstm(*command).stdout
    (tmp_path / "log").write_bytes(b"before\n")
    redirect(1, os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND))
    done = charlstm(*command, "-o", name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_bytes() == b"before\n" + text
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_pages_and_models_can_go_to_standard_output(
    trained: Path, charlstm: Run, words: Path
) -> None:
    page = charlstm("score", trained, words, "--html", "-", "--unknown", "skip")
    assert page.stdout.startswith(b"<!DOCTYPE html>")
    assert page.stdout.endswith(b"</html>\n")
    assert b"bits per character" in page.stderr
    model = charlstm("export", trained, "--format", "numpy", "-o", "-")
    assert model.returncode == 0, model.stderr
    assert "charlstm" in np.load(io.BytesIO(model.stdout))
    assert [path.name for path in words.parent.iterdir()] == [words.name]


@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ("export RUN --format saved-model -o -", 1, "saved-model is a folder; name a path"),
        ("score RUN - --json --html -", 2, "--json and --html would both be written"),
        ("neurons RUN - --json --html -", 2, "--json and --html would both be written"),
        ("neurons RUN - --npz -", 2, "--npz writes a file, not standard output"),
    ],
)
def test_a_folder_or_two_documents_on_standard_output_are_refused(
    command: str, code: int, complaint: str, trained: Path, charlstm: Run
) -> None:
    done = charlstm(*command.replace("RUN", str(trained)).split(), given=b"the cell")
    assert done.returncode == code
    assert complaint in lines_of(done.stderr)[-1]
