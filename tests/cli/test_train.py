"""Messages of ``charlstm train`` about odd paths, unreadable folders and changed machines."""

import shlex
import shutil
import tomllib
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
        ("a", {"replicas": 2}, "charlstm train a --resume --replicas 2"),
        ("a", {"tensorboard": True}, "charlstm train a --resume --tensorboard"),
        ("-a", {}, "charlstm train --resume -- -a"),
        ("--units", {"run": "r"}, "charlstm train --resume --run r -- --units"),
        (None, {"device": "gpu"}, "charlstm train --demo --resume --device gpu"),
    ],
)
def test_the_command_to_continue_has_the_options_it_needs(
    text: str | None, typed: dict[str, object], line: str
) -> None:
    assert _again(Request((text,) if text else (), typed)) == line


def test_the_commands_to_continue_and_to_sample_work_as_printed(
    charlstm: Run, tmp_path: Path
) -> None:
    """Even with names that look like options."""
    (tmp_path / "-a").write_text("the quick brown fox\n" * 20)
    done = charlstm("train", *SMALL, *"--epochs 1 --run".split(), "-my run", "--", "-a")
    assert done.returncode == 0, done.stderr.decode()
    again = charlstm(*shlex.split(_again(Request(("-a",), {"run": "-my run"})))[1:])
    assert again.returncode == 0, again.stderr.decode()
    lines = lines_of(again.stderr)
    assert lines[0].endswith(": resuming training on -a, in -my run")
    assert "already finished; to train further, raise --epochs or --patience" in lines
    assert lines[-1] == "next:    charlstm sample -- '-my run'"
    assert charlstm(*shlex.split(lines[-1])[2:]).returncode == 0


def test_a_run_without_its_options_is_an_error_without_presets(
    charlstm: Run, trained: Path, text: str, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/config.toml").unlink()
    (tmp_path / "words.txt").write_text(text, "utf-8", newline="")
    done = charlstm("train", "words.txt", "--run", "run", "--resume")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == (
        "charlstm: run/config.toml: No such file or directory; restore it, or start again with "
        "--overwrite"
    )


def test_a_preset_s_calibration_can_be_switched_off(charlstm: Run, words: Path) -> None:
    for flags, calibrate in (([], True), (["--no-calibrate"], False)):
        options = [*SMALL, "--max-steps", "2", "--sample-every", "0", "--overwrite", *flags]
        done = charlstm("train", "words.txt", *options)
        assert done.returncode == 0, done.stderr.decode()
        used = tomllib.loads((words.parent / "checkpoints/words/config.toml").read_text("utf-8"))
        assert used["calibrate"] is calibrate


def test_a_bar_begins_where_the_training_continues() -> None:
    """Earlier progress does not count towards its rate, which would be in the millions."""
    console = Console()
    console.terminal = True
    bar = console.bar("epoch 2", 1_000_000, " characters", first=900_000)
    bar.update(100)
    assert (bar.n, bar.initial) == (900_100, 900_000)
    console.close()


@pytest.fixture
def unreadable(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run under ``checkpoints/`` that cannot be read, even by root."""
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
def test_an_unreadable_folder_is_one_line(command: str, charlstm: Run) -> None:
    done = charlstm(*COMMANDS[command].format("checkpoints/secret").split())
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == "charlstm: checkpoints/secret: Permission denied"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["show", "sample", "score", "export"])
def test_an_unreadable_run_is_never_the_default(
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
def test_a_run_can_have_the_longest_possible_folder_name(charlstm: Run) -> None:
    done = charlstm("train", "words.txt", *SMALL, "--max-steps", "1", "--run", "n" * 255)
    assert done.returncode == 0, done.stderr.decode()


def test_a_tensorflow_from_another_distribution_has_a_version(
    charlstm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tensorflow-cpu and nightly builds provide the module under other distribution names."""
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


def test_resuming_on_another_number_of_cores_is_reported(
    charlstm: Run, trained: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "words.txt").write_text(text, "utf-8", newline="")
    before = usable_cores()
    monkeypatch.setattr("charlstm.training.clock.usable_cores", lambda: before + 1)
    done = charlstm("train", "words.txt", *"--run run --resume --epochs 3".split())
    note = f"note:    cores was {before} and is now {before + 1}: results can differ from"
    assert any(line.startswith(note) for line in lines_of(done.stderr))
