"""Unusual paths: brackets, removed folders, pipes as texts, names already in use."""

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import SMALL, Run, lines_of, shell

from charlstm.export.artifact import zero_state
from charlstm.export.destination import format_module
from charlstm.run.find import load_checkpoint

CHARLSTM = f"{shlex.quote(sys.executable)} -m charlstm"


@pytest.mark.parametrize("name", ["a[b]c", "star*", "back\\slash", "what?"])
def test_a_saved_model_can_have_any_path(
    name: str, trained: Path, charlstm: Run, tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    done = charlstm("export", trained, "--format", "saved-model", "-o", folder / "model")
    assert done.returncode == 0, done.stderr.decode()
    assert any("reads this path as a glob pattern" in line for line in lines_of(done.stderr))
    step = format_module("saved-model").load(folder / "model")
    checkpoint = load_checkpoint(str(trained))[1]
    logits, _ = step(*_first(checkpoint))
    assert logits.shape == (1, 1, len(checkpoint.vocabulary))
    assert [path.name for path in folder.iterdir()] == ["model"]


def _first(checkpoint: object) -> tuple[object, object]:
    import numpy as np

    return np.zeros((1, 1), np.int32), zero_state(checkpoint.model)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["sample RUN --length 5", "score RUN text", "doctor"])
def test_a_missing_temporary_folder_is_one_line(
    command: str, trained: Path, tmp_path: Path
) -> None:
    """As in a read-only container."""
    (tmp_path / "text").write_text("the cell")
    nowhere = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/nowhere'];"
        "from charlstm.cli import main; main()"
    )
    program = f"{shlex.quote(sys.executable)} -c {shlex.quote(nowhere)}"
    done = shell(tmp_path, f"{program} {command.replace('RUN', shlex.quote(str(trained)))}")
    assert done.returncode == 1
    line = lines_of(done.stderr)[-1]
    assert line.startswith("charlstm: ")
    assert "temporary" in line
    assert "TMPDIR" in line.partition("; ")[2]
    assert b"Traceback" not in done.stderr


def test_absolute_paths_work_in_a_removed_working_folder(trained: Path, tmp_path: Path) -> None:
    run = shlex.quote(str(trained))
    program = f"{shlex.quote(sys.executable)} -P -m charlstm"
    gone = f"mkdir gone && cd gone && rmdir ../gone && {program}"
    done = shell(tmp_path, f"{gone} sample {run} --prime the --length 5 --seed 1")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"the")
    for command in (
        f"sample {run} --length 5 -o text",
        f"export {run} --format numpy -o model.npz",
        f"train {shlex.quote(str(tmp_path / 'text'))} --run here",
    ):
        (tmp_path / "text").write_text("the cell\n" * 500)
        done = shell(tmp_path, f"{gone} {command}")
        assert done.returncode == 1, command
        assert lines_of(done.stderr)[-1].startswith("charlstm: "), done.stderr.decode()
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["train pipe", "train text --config pipe", "show pipe"])
def test_a_pipe_without_a_writer_is_refused_at_once(command: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("the cell\n" * 500)
    results: list[subprocess.CompletedProcess[bytes]] = []
    thread = threading.Thread(
        target=lambda: results.append(shell(tmp_path, f"{CHARLSTM} {command}")),
        daemon=True,
    )
    thread.start()
    thread.join(20)
    assert results, "it waits for the pipe"
    assert results[0].returncode == 1
    assert lines_of(results[0].stderr)[-1].startswith("charlstm: pipe: ")


@pytest.mark.parametrize(
    ("texts", "name", "proposed"),
    [
        (("data/a/input.txt", "more/a/input.txt"), "a", "checkpoints/more-a"),
        (("log.1", "log.2"), "log", "checkpoints/log.2"),
        (("a/x.txt", "b/x.txt"), "x", "checkpoints/x.txt"),
    ],
)
def test_two_texts_with_the_same_name_need_two_folders(
    texts: tuple[str, str], name: str, proposed: str, charlstm: Run, tmp_path: Path
) -> None:
    one, two = texts
    for path, text in ((one, "the cell\n" * 60), (two, "a gate\n" * 60)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert charlstm("train", one, *SMALL, "--max-steps", "1").returncode == 0
    folder = f"checkpoints/{name}"
    done = charlstm("train", two, *SMALL, "--max-steps", "1")
    assert lines_of(done.stderr)[-1] == (
        f"charlstm: {folder}: contains a run of another text ({proposed} is free); choose "
        "another folder with --run, or replace it with --overwrite"
    )
    done = charlstm("train", two, *SMALL, "--max-steps", "1", "--run", folder, "--resume")
    assert f"({proposed} is free); train another run with --run" in lines_of(done.stderr)[-1]
    assert charlstm("train", two, *SMALL, "--max-steps", "1", "--run", proposed).returncode == 0


def test_init_from_refuses_a_path_that_is_not_utf8(
    charlstm: Run, trained: Path, words: Path
) -> None:
    name = os.fsdecode(b"\xff.h5")
    (words.parent / name).write_bytes((trained / "epoch-001.weights.h5").read_bytes())
    done = charlstm("train", "words.txt", "--init-from", name)
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].startswith("charlstm: --init-from: the path is not UTF-8")


def test_a_nul_in_a_path_is_one_line(charlstm: Run, words: Path) -> None:
    (words.parent / "a.toml").write_text('run = "a\\u0000b"\n')
    done = charlstm("train", "words.txt", "--config", "a.toml")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].startswith("charlstm: a.toml: run must not contain a NUL")
