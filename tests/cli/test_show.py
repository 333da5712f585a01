"""``charlstm show`` for runs that are finished, running, damaged or hostile."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Run, environment, lines_of

from charlstm.architecture import ModelConfig, shapes
from charlstm.cli._chart import Chart, Points
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary

LIGHT = """
import sys
from charlstm.cli import main
sys.argv = ["charlstm", "show", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"tensorflow", "keras", "tqdm", "matplotlib"} & sys.modules.keys()
    assert not heavy, heavy
"""


@pytest.fixture
def running(trained: Path, tmp_path: Path) -> Path:
    """Return a run in its first epoch: a copy of a finished run without its later files."""
    run = tmp_path / "checkpoints" / "running"
    shutil.copytree(trained, run)
    for path in run.glob("epoch-*"):
        path.unlink()
    lines = (run / "history.jsonl").read_text().splitlines(keepends=True)
    steps = [line for line in lines if json.loads(line) | {"epoch": 1} == json.loads(line)]
    (run / "history.jsonl").write_text("".join(steps[:-1]) + '{"kind": "step", "epo')
    return run


def shown(charlstm: Run, *arguments: str | Path, **more: str) -> str:
    done = charlstm("show", *arguments, **more)
    assert done.returncode == 0, done.stderr.decode()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)
    return done.stdout.decode()


def test_a_run_is_shown_with_its_epochs_and_curve(trained: Path, charlstm: Run) -> None:
    text = shown(charlstm, trained)
    file = read_checkpoint(trained / "epoch-002.weights.h5")
    weights = sum(array.size for array in file.weights)
    assert (
        f"model:      2 x LSTM(24), dropout {file.model.dropout}: {weights:,} parameters\n" in text
    )
    assert f"vocabulary: 27 characters: '\\n {file.vocabulary.characters[2:8]}" in text
    assert "epochs 2, batch_size 3, sequence_length 10," in text
    assert "python " + ".".join(map(str, sys.version_info[:3])) in text
    history = map(json.loads, (trained / "history.jsonl").read_text().splitlines())
    losses = [line for line in history if line["kind"] == "epoch"]
    best = min(losses, key=lambda line: line["valid_loss"])["epoch"]
    for line in losses:
        bits = line["valid_loss"] / math.log(2)
        row = rf" +{line['epoch']}  +{line['train_loss']:.4f} +{line['valid_loss']:.4f} +{bits:.4f}"
        end = "best" if line["epoch"] == best else "[0-9]"
        assert re.search(rf"^{row}.*{end}$", text, re.MULTILINE)
    assert re.search(r"^ +epoch 1 +epoch 2\n\Z", text, re.MULTILINE)
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_nothing_heavy_is_imported(trained: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, str(trained)],
        env=environment(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_json_agrees_with_the_files(trained: Path, charlstm: Run) -> None:
    found = json.loads(shown(charlstm, trained, "--json"))
    file = read_checkpoint(trained / "epoch-002.weights.h5")
    assert found["model"] == asdict(file.model)
    assert found["vocabulary"] == file.vocabulary.characters
    assert found["training"] == file.training
    assert found["versions"] == file.versions
    assert found["parameters"] == sum(array.size for array in file.weights)
    assert [e["train_loss"] for e in found["epochs"]][1] == file.metrics["train_loss"]
    assert [e["valid_loss"] for e in found["epochs"]][1] == file.metrics["valid_loss"]
    assert (found["path"], found["step"]) == (str(trained), None)


def test_a_run_in_its_first_epoch_shows_its_steps(running: Path, charlstm: Run) -> None:
    text = shown(charlstm)  # the newest run, even without a finished epoch
    assert text.startswith("checkpoints/running\n")
    last = [json.loads(line) for line in (running / "history.jsonl").read_text().splitlines()[:-1]][
        -1
    ]
    assert f"0 of 2 epochs; epoch 1, step {last['step']:,}: loss {last['loss']:.4f};" in text
    assert re.search(rf"^ +epoch 1, step 5 +epoch 1, step {last['step']}$", text, re.MULTILINE)
    (running / "history.jsonl").unlink()
    assert "LSTM(24)" in shown(charlstm)


def test_a_single_weights_file_is_shown(trained: Path, charlstm: Run, tmp_path: Path) -> None:
    copy = shutil.copy(trained / "epoch-001.weights.h5", tmp_path / "a.h5")
    text = shown(charlstm, copy)
    assert "trained:    epoch 1\n" in text
    loss = read_checkpoint(Path(copy)).metrics["train_loss"]
    assert f"    1   {loss:.4f}" in text


def test_without_utf_8_the_page_is_ascii(trained: Path, charlstm_process: Run) -> None:
    text = shown(charlstm_process, trained, PYTHONIOENCODING="ascii", COLUMNS="60")
    assert text.isascii()
    assert " .. training, o validation" in text
    curve = text.partition("loss, nats")[2].splitlines()
    assert max(map(len, curve)) <= 60


def test_control_characters_in_a_file_do_not_reach_the_terminal(
    charlstm: Run, tmp_path: Path
) -> None:
    model, vocabulary = ModelConfig(units=2, layers=1), Vocabulary("\x1b\n\u202eab")
    hostile = "\x1b[2J\r\n\u202e"
    weights = shapes(model, 5).map(lambda shape: np.zeros(shape, np.float32))
    more = {"optimizer": hostile, "epochs": 10**30, "seed": 3, hostile: hostile}
    file = Checkpoint(1, model, vocabulary, weights, training=more, versions={hostile: hostile})
    run = tmp_path / "run"
    run.mkdir()
    write_checkpoint(run / "epoch-001.weights.h5", file)
    clock = {"at": hostile, "seconds": hostile, "characters_per_second": []}
    (run / "history.jsonl").write_text(
        json.dumps({"kind": "epoch", "epoch": 1, "train_loss": hostile, "clock": clock}) + "\n[[\n"
    )
    text = shown(charlstm, run)
    assert "settings:   seed 3\n" in text
    assert "\u202e" not in text
    assert "5 characters: '\\x1b\\n\\u202eab'\n" in text
    shown(charlstm, run, "--json")


def test_a_single_resume_file_shows_its_progress(trained: Path, charlstm: Run) -> None:
    done = charlstm("show", trained / "resume.weights.h5")
    assert "trained:    up to epoch 3, step 0\n" in done.stdout.decode()


def test_a_damaged_resume_file_is_only_a_note(trained: Path, charlstm: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "resume.weights.h5").write_bytes(b"")
    done = charlstm("show", run)
    assert done.returncode == 0
    assert (
        "resume.weights.h5: not a charlstm weights file; showing the newest intact epoch"
        in lines_of(done.stderr)[0]
    )
    (run / "resume.weights.h5").unlink()
    assert charlstm("show", run).stderr == b""


def test_nothing_to_show_is_one_line(charlstm: Run, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for arguments, complaint in {
        (): "charlstm: checkpoints/: no run found",
        ("none",): "charlstm: none: no such run or weights file",
        (".",): "charlstm: .: contains no run",
        ("text",): "charlstm: text: not a charlstm weights file",
    }.items():
        done = charlstm("show", *arguments)
        assert (done.returncode, done.stdout) == (1, b"")
        (line,) = lines_of(done.stderr)
        assert line.startswith(complaint)


def test_the_run_written_to_last_is_the_newest(trained: Path, running: Path, charlstm: Run) -> None:
    other = running.parent / "other"
    shutil.copytree(trained, other)
    for path in other.iterdir():
        os.utime(path, ns=(0, 10**9))
    assert shown(charlstm).startswith("checkpoints/running\n")
    os.utime(running / "resume.weights.h5", ns=(0, 10**8))
    assert shown(charlstm).startswith("checkpoints/other\n")


def verdicts(charlstm: Run, run: Path) -> tuple[int, dict[str, str | None]]:
    done = charlstm("show", run, "--verify", "--json")
    return done.returncode, json.loads(done.stdout)


def test_an_intact_run_is_reported_as_such(trained: Path, charlstm: Run) -> None:
    names = {"config.toml", "corpus.ids", "history.jsonl", "resume.weights.h5"}
    names |= {f"epoch-00{epoch}.weights.h5" for epoch in (1, 2)}
    assert verdicts(charlstm, trained) == (0, dict.fromkeys(names))
    text = charlstm("show", trained, "--verify").stdout.decode()
    assert text.count("  intact\n") == len(names)
    assert verdicts(charlstm, trained / "epoch-001.weights.h5")[0] == 0


def place_of_damage(path: Path, content: bytearray) -> int:
    """Return the offset of a byte that matters: HDF5 files also have bytes that nobody reads."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return int(file["layers/lstm/cell/vars/0"].id.get_offset())
    marks = {".jsonl": b"{", ".toml": b"="}
    return content.index(marks[path.suffix]) if path.suffix in marks else len(content) // 2


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("epoch-001.weights.h5", "checksum"),
        ("resume.weights.h5", "checksum"),
        ("corpus.ids", "does not match corpus.json"),
        ("history.jsonl", "is not a JSON object"),
        ("config.toml", "not a TOML file"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, problem: str, trained: Path, charlstm: Run, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    content = bytearray((run / name).read_bytes())
    content[place_of_damage(run / name, content)] ^= 0x55
    (run / name).write_bytes(content)
    code, found = verdicts(charlstm, run)
    assert code == 1
    assert [n for n, said in found.items() if said] == [name]
    assert problem in str(found[name])
    done = charlstm("show", run, "--verify")
    assert lines_of(done.stderr)[-1] == f"charlstm: {run}: 1 of 6 files damaged"


def test_a_truncated_history_is_noticed(trained: Path, charlstm: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    lines = (run / "history.jsonl").read_text().splitlines(keepends=True)
    (run / "history.jsonl").write_text("".join(lines[:-1]))
    code, found = verdicts(charlstm, run)
    assert code == 1
    assert "but the resume file needs" in str(found["history.jsonl"])
    (run / "corpus.json").unlink()
    assert verdicts(charlstm, run)[1]["corpus.ids"] == "corpus.json cannot be read"


LINE: Points = [(x, (x - 7) ** 2 + 1.0) for x in range(1, 21)]
MARKS: Points = [(x, 100.0 - x) for x in range(1, 21)]


def dots(rows: list[str]) -> set[tuple[int, int]]:
    """Return (column, row), counted in dots, of each dot between the labels."""
    found = set()
    for i, row in enumerate(rows):
        for j, character in enumerate(re.split("[│┤├]", row)[1]):
            bits = ord(character) - 0x2800 if "\u2800" <= character <= "\u28ff" else 0
            # Unicode numbers the dots down the left column, then the right, then the lowest two.
            for bit, place in enumerate(
                ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
            ):
                if bits >> bit & 1:
                    found.add((2 * j + place[0], 4 * i + place[1]))
    return found


def test_a_curve_passes_through_its_points_without_gaps() -> None:
    rows = Chart(LINE, [], ("a", "b"), float, plain=False).rows(60, 13)[:-1]
    found = dots(rows)
    width, depth = 2 * len(re.split("[│┤├]", rows[0])[1]), 4 * 13
    for x, y in LINE:
        assert (round((x - 1) / 19 * (width - 1)), round((170 - y) / 169 * (depth - 1))) in found
    for column in range(width - 1):
        here, there = ({y for x, y in found if x == c} for c in (column, column + 1))
        assert min(abs(a - b) for a in here for b in there) <= 1


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("width", [40, 61, 100])
@pytest.mark.parametrize("line", [LINE, LINE[:1], [(1.0, 2.0), (1.0, 2.0)], LINE * 30])
def test_a_chart_has_the_requested_size(line: Points, width: int, *, plain: bool) -> None:
    rows = Chart(line, [], ("first", "last"), lambda y: y * 2, plain).rows(width, 13)
    assert len(rows) == 14
    assert max(map(len, rows)) == width
    assert rows[-1].split() == ["first", "last"]
    values = [float(row.split()[0]) for row in rows[:-1:3]]
    assert values == sorted(values, reverse=True)
    assert [float(row.split()[-1]) for row in rows[:-1:3]] == pytest.approx(
        [value * 2 for value in values], abs=0.002
    )


def test_marks_cover_the_line() -> None:
    both = "\n".join(Chart(MARKS, MARKS, ("", ""), float, plain=True).rows(80, 13))
    assert both.count("o") == len(MARKS)
    assert both.count(".") > len(MARKS)
