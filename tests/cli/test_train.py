"""What ``charlstm train`` says where things are not as they should be."""

import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Run, lines_of

from charlstm.cli._console import Console
from charlstm.cli._versions import version_of
from charlstm.cli.train import _again
from charlstm.hardware import usable_cores
from charlstm.training.settings import Request


@pytest.mark.parametrize(
    ("text", "typed", "line"),
    [
        ("input.txt", {"units": 3}, "charlstm train input.txt --resume"),
        ("a b", {"run": "my run"}, "charlstm train 'a b' --resume --run 'my run'"),
        ("a", {"device": "cpu"}, "charlstm train a --resume --device cpu"),
        ("a", {"tensorboard": True}, "charlstm train a --resume --tensorboard"),
        ("-a", {}, "charlstm train --resume -- -a"),
        ("--units", {"run": "r"}, "charlstm train --resume --run r -- --units"),
        (None, {"device": "gpu"}, "charlstm train --demo --resume --device gpu"),
    ],
)
def test_what_to_type_to_go_on_is_all_that_it_takes(
    text: str | None, typed: dict[str, object], line: str
) -> None:
    assert _again(Request(text, typed)) == line


def test_the_line_to_go_on_with_is_taken_as_it_is(charlstm: Run, tmp_path: Path) -> None:
    (tmp_path / "-a").write_text("the quick brown fox\n" * 20)
    done = charlstm("train", *SMALL, "--epochs", "1", "--", "-a")
    assert done.returncode == 0, done.stderr.decode()
    words = _again(Request("-a")).split()[1:]
    again = charlstm(*words)
    assert again.returncode == 0
    assert lines_of(again.stderr)[-1].startswith("finished already")


def test_a_run_without_its_options_is_not_offered_presets(
    charlstm: Run, trained: Path, text: str, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/config.toml").unlink()
    (tmp_path / "words.txt").write_text(text, "utf-8", newline="")
    done = charlstm("train", "words.txt", "--run", "run", "--resume")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == (
        "charlstm: run/config.toml: No such file or directory; put it back, or start again with "
        "--overwrite"
    )


def test_a_bar_begins_where_the_training_goes_on() -> None:
    """What was done before is no part of its rate: no training makes millions of characters/s."""
    console = Console()
    console.terminal = True
    bar = console.bar("epoch 2", 1_000_000, " characters", first=900_000)
    bar.update(100)
    assert (bar.n, bar.initial) == (900_100, 900_000)
    console.close()


@pytest.fixture
def unreadable(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run under ``checkpoints/`` that cannot be read, by root either."""
    run = tmp_path / "checkpoints" / "secret"
    shutil.copytree(trained, run)
    listed, stat = Path.iterdir, Path.stat

    def refuse(path: Path) -> None:
        if "secret" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))

    def refused_listing(path: Path) -> Iterator[Path]:
        refuse(path)
        return listed(path)

    def refused_stat(path: Path, **rest: Any) -> Any:
        refuse(path.parent)
        return stat(path, **rest)

    monkeypatch.setattr(Path, "iterdir", refused_listing)
    monkeypatch.setattr(Path, "stat", refused_stat)
    return run


COMMANDS = {
    "show": "show {}",
    "sample": "sample {} --length 5",
    "score": "score {} words.txt",
    "export": "export {} --format numpy -o model.npz",
    "train": "train words.txt --run {} --resume",
    "init": "train words.txt --init-from {} --run new",
}


@pytest.mark.usefixtures("unreadable", "words")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_read_is_one_line(command: str, charlstm: Run) -> None:
    done = charlstm(*COMMANDS[command].format("checkpoints/secret").split())
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == "charlstm: checkpoints/secret: Permission denied"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["show", "sample", "score", "export"])
def test_where_no_run_is_named_one_that_cannot_be_read_is_passed_over(
    command: str, unreadable: Path, charlstm: Run, trained: Path
) -> None:
    (unreadable.parents[1] / "words.txt").write_text("the cell")
    done = charlstm(*COMMANDS[command].format("").split())
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].startswith("charlstm: checkpoints/: no run")
    shutil.copytree(trained, unreadable.with_name("open"))
    assert charlstm(*COMMANDS[command].format("").split()).returncode == 0


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_too_long_is_one_line(command: str, charlstm: Run) -> None:
    done = charlstm(*COMMANDS[command].format("n" * 300).split())
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].startswith(f"charlstm: {'n' * 300}: ")
    assert "File name too long" in lines_of(done.stderr)[-1]
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("words")
def test_a_run_can_have_the_longest_name_that_a_folder_can(charlstm: Run) -> None:
    done = charlstm("train", "words.txt", *SMALL, "--max-steps", "1", "--run", "n" * 255)
    assert done.returncode == 0, done.stderr.decode()


def test_a_tensorflow_by_another_name_has_a_version(
    charlstm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tensorflow-cpu and nightly builds have the module, and no distribution of its name."""
    real = metadata.version

    def version(name: str) -> str:
        if name == "tensorflow":
            raise metadata.PackageNotFoundError(name)
        return "2.99.0" if name == "tf-nightly-cpu" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    provided = {"tensorflow": ["tf-nightly-cpu"], "click": ["click"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: provided)
    assert "tensorflow 2.99.0" in charlstm("--version").stdout.decode()
    provided.clear()
    assert version_of("tensorflow") is None
    assert "tensorflow not installed" in charlstm("--version").stdout.decode()


def test_going_on_with_another_number_of_cores_is_said(
    charlstm: Run, trained: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "words.txt").write_text(text, "utf-8", newline="")
    before = usable_cores()
    monkeypatch.setattr("charlstm.training.clock.usable_cores", lambda: before + 1)
    done = charlstm("train", "words.txt", *"--run run --resume --epochs 3".split())
    note = f"note:    cores was {before}, is {before + 1}: results can differ from those of"
    assert any(line.startswith(note) for line in lines_of(done.stderr))
