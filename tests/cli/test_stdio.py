"""Streams whose other end goes away, and what a terminal is shown."""

import io
import os
import shlex
import signal
import subprocess
import sys
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

from charlstm.run.find import load_checkpoint
from charlstm.text.display import visible

CHARLSTM = f"{shlex.quote(sys.executable)} -m charlstm"


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``charlstm`` is the program."""
    return subprocess.run(
        ["bash", "-c", f'charlstm() {{ {CHARLSTM} "$@"; }}; {command}'],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )


TRAIN = f"charlstm train words.txt {' '.join(SMALL)} --epochs 2"


def test_a_log_that_is_lost_costs_the_messages_and_nothing_else(words: Path) -> None:
    done = shell(words.parent, f"{TRAIN} 2> >(head -n 3 >/dev/null)")
    assert done.returncode == 0
    assert done.stdout == b"checkpoints/words/epoch-002.weights.h5\n"
    assert load_checkpoint(str(words.parent / "checkpoints/words"))[1].epoch == 2


def test_a_terminal_that_is_closed_under_a_job_costs_no_more(words: Path) -> None:
    """Where SIGHUP is ignored, as under nohup, what is written there afterwards fails with EIO."""
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
    while b"epoch 1 of 9" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said == b"checkpoints/words/epoch-009.weights.h5\n"


@pytest.mark.parametrize(
    "command", ["sample RUN --prime the --length 3 --seed 1", "score RUN words.txt", "show none"]
)
def test_without_a_reader_of_errors_all_else_is_the_same(
    command: str, trained: Path, words: Path, charlstm: Run
) -> None:
    line = command.replace("RUN", str(trained))
    whole, gone = charlstm(*line.split()), shell(words.parent, f"charlstm {line} 2>/dev/full")
    assert (gone.returncode, gone.stdout) == (whole.returncode, whole.stdout)


def test_a_stopped_training_without_a_reader_has_the_code_of_its_signal(words: Path) -> None:
    process = start(words.parent, "train", words, *SMALL, "--epochs", "9999")
    wait_for(words.parent / "checkpoints/words/epoch-001.weights.h5", process)
    assert process.stderr
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert load_checkpoint(str(words.parent / "checkpoints/words"), "last")


def test_a_training_whose_answer_nobody_takes_is_an_error(words: Path) -> None:
    """A script would take the empty answer for a path; of a text that is drawn it is enough."""
    done = shell(words.parent, f"set -o pipefail; {TRAIN} --max-steps 1 | true")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == "charlstm: standard output: Broken pipe"


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1"])
def test_what_schedulers_send_before_the_end_saves(name: str, words: Path) -> None:
    number = getattr(signal, name)
    process = start(words.parent, "train", words, *SMALL, "--epochs", "9999")
    wait_for(words.parent / "checkpoints/words/resume.weights.h5", process)
    process.send_signal(number)
    assert process.stderr
    while b"stopping" not in process.stderr.readline():
        pass
    lines = interrupt(process, number)  # as the kernel and the shell do, one after the other
    assert any(line.startswith("saved; go on with: ") for line in lines)


def test_what_a_terminal_would_obey_is_shown_by_its_picture() -> None:
    assert visible("a\tb\nc") == "a\tb\nc"
    assert visible("\0\x1b[2J\r\x7f") == "\u2400\u241b[2J\u240d\u2421"
    assert visible("\x9b31m\x85") == "\\x9b31m\\x85"
    assert visible("\u202eabc\u2066") == "\\u202eabc\\u2066"
    assert (
        visible("👩\u200d🚀 e\u0301 学") == "👩\u200d🚀 e\u0301 学"
    )  # what belongs to a script stays


def test_a_text_is_pictures_on_a_terminal_and_itself_in_a_pipe(
    indifferent: Path, charlstm: Run, tmp_path: Path
) -> None:
    options = ["--prime", STRANGE[1:], *"--length 200 --seed 1".split()]
    raw = charlstm("sample", indifferent, *options).stdout.decode()
    assert raw.startswith(STRANGE[1:])
    _, shown = on_a_terminal(tmp_path, "sample", indifferent, *options)
    assert visible(raw) in shown.replace("\r\n", "\n")
    assert "\x1b" not in shown


def test_a_log_shows_the_samples_of_a_training_without_its_codes(
    charlstm: Run, tmp_path: Path
) -> None:
    (tmp_path / "a\x1b]2;title\x07.txt").write_text("\x1b[2J\x07\r\n" * 200, "utf-8", newline="")
    done = charlstm("train", "a\x1b]2;title\x07.txt", *SMALL, "--epochs", "1")
    assert done.returncode == 0, done.stderr.decode()
    assert not {chr(c) for c in range(32)} - {"\n"} & set(done.stderr.decode())
    assert "\u241b" in done.stderr.decode()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_dash_is_standard_output(name: str, trained: Path, charlstm: Run, tmp_path: Path) -> None:
    """Which is added to, where the shell says so, and not replaced."""
    options = f"sample {shlex.quote(str(trained))} --prime the --length 9 --seed 1"
    (tmp_path / "log").write_bytes(b"before\n")
    done = shell(tmp_path, f"charlstm {options} -o {name} >>log")
    assert done.returncode == 0, done.stderr
    text = charlstm(*shlex.split(options)).stdout
    assert (tmp_path / "log").read_bytes() == b"before\n" + text
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_pages_and_models_go_to_standard_output(trained: Path, charlstm: Run, words: Path) -> None:
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
    ],
)
def test_what_cannot_go_to_standard_output_is_refused(
    command: str, code: int, complaint: str, trained: Path, charlstm: Run
) -> None:
    done = charlstm(*command.replace("RUN", str(trained)).split(), given=b"the cell")
    assert done.returncode == code
    assert complaint in lines_of(done.stderr)[-1]
