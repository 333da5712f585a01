import errno
import fcntl
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from charlstm.errors import CharlstmError
from charlstm.run import find
from charlstm.run.claim import new_run, old_run, recover_run
from charlstm.run.find import find_weights
from charlstm.run.folder import RunFolder
from charlstm.run.weights import Checkpoint
from charlstm.run.weights_reader import read_checkpoint


def folder_with(path: Path, losses: dict[int, float | None]) -> RunFolder:
    """Create a run folder with an epoch file and a history line for each epoch."""
    path.mkdir(parents=True)
    run = RunFolder(path)
    for epoch, loss in losses.items():
        run.epoch_path(epoch).touch()
        run.append_history({"kind": "epoch", "epoch": epoch, "valid_loss": loss})
    return run


def test_epochs_are_sorted_by_number_and_other_files_are_ignored(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1000: None, 999: None, 7: None})
    for name in ("epoch-01.weights.h5", "epoch-008.h5", ".epoch-009.weights.h5.tmp"):
        (run.path / name).touch()
    assert run.epochs() == [7, 999, 1000]


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({1: 2.0, 2: 1.5, 3: 1.7}, 2),
        ({1: 1.5, 2: 1.5, 3: 1.6}, 1),  # a tie: the earlier one
        ({1: None, 2: None, 3: None}, 3),  # no validation
    ],
)
def test_best_is_the_lowest_validation_loss(
    losses: dict[int, float | None], best: int, tmp_path: Path
) -> None:
    run = folder_with(tmp_path / "run", losses)
    assert run.choose("best") == run.epoch_path(best)


def test_best_is_chosen_among_the_epochs_that_have_a_file(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1: 1.0, 2: 1.2, 3: 1.3})
    run.epoch_path(1).unlink()
    assert run.best_epoch() == 2


def test_if_an_epoch_is_removed_before_it_is_read_the_next_best_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running training with --keep can remove one; here it is removed just before reading."""
    run = folder_with(tmp_path / "run", {1: 1.0, 2: 1.2, 3: 1.3})
    read: list[Path] = []

    def remove_and_read(path: Path) -> Checkpoint:
        read.append(path)
        if len(read) < 3:
            path.unlink()
        return read_checkpoint(path)

    monkeypatch.setattr(find, "read_checkpoint", remove_and_read)
    with pytest.raises(CharlstmError, match=r"epoch-003.*not a charlstm weights file"):
        find.load_checkpoint(str(run.path))
    assert read == [run.epoch_path(1), run.epoch_path(2), run.epoch_path(3)]


def test_history_until_an_epoch_without_a_line_ends_at_the_epoch_before(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1: 1.0, 2: 1.2})
    size = (run.path / "history.jsonl").stat().st_size
    assert run.history_until(3) == run.history_until(2) == size
    assert 0 < run.history_until(1) < size
    assert run.history_until(0) == 0


def test_truncated_lines_and_losses_that_are_not_finite_are_ignored(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1: 2.0, 2: 1.5})
    run.epoch_path(3).touch()
    with (run.path / "history.jsonl").open("a") as file:
        file.write('{"kind": "epoch", "epoch": 3, "valid_loss": NaN}\n[]\n{"kind": "epo')
    assert run.best_epoch() == 2


def test_the_error_for_a_missing_epoch_lists_the_available_ones(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1: None, 2: None})
    assert run.choose("last") == run.choose("2") == run.epoch_path(2)
    with pytest.raises(CharlstmError, match="no epoch 3; it has 1, 2"):
        run.choose("3")


def test_the_newest_run_has_the_most_recent_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CharlstmError, match="no run"):
        find_weights(None, "last")
    for name, age in (("old", 9), ("new", 5), (".hidden", 7)):
        run = folder_with(tmp_path / "checkpoints" / name, {1: None, 2: None})
        os.utime(run.epoch_path(1), ns=(0, 10**9 * (100 - age)))
        os.utime(run.epoch_path(2), ns=(0, 10**9 * (100 - age)))
    os.utime(tmp_path / "checkpoints/old/epoch-001.weights.h5")  # not its last epoch
    (tmp_path / "checkpoints" / "empty").mkdir()
    folder_with(tmp_path / "checkpoints" / ".made.part", {1: None})
    (tmp_path / "checkpoints" / "file").touch()
    assert find_weights(None, "last") == Path("checkpoints/new/epoch-002.weights.h5")


def test_an_epoch_can_be_chosen_of_a_run_folder_but_not_of_a_file(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1: None, 2: None})
    assert find_weights(str(run.path), "1") == run.epoch_path(1)
    file = str(run.epoch_path(2))
    assert find_weights(file) == Path(file)
    with pytest.raises(CharlstmError, match="holds a single epoch"):
        find_weights(file, "last")
    with pytest.raises(CharlstmError, match="no such run"):
        find_weights(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CharlstmError, match="no finished epoch"):
        find_weights(str(tmp_path / "empty"))


def test_a_run_that_is_not_settled_leaves_nothing(tmp_path: Path) -> None:
    with new_run(tmp_path / "a/b/run", overwrite=False) as run:
        run.write_config("units = 3\n")
    assert not list(tmp_path.iterdir())


def test_a_settled_run_appears_with_all_of_its_files(tmp_path: Path) -> None:
    place = tmp_path / "a/run"
    with new_run(place, overwrite=False) as run:
        run.write_config("units = 3\n")
        assert not place.exists()
        run.settle()
        assert (place / "config.toml").read_text() == "units = 3\n"
        run.append_history({"loss": 1.0})
    assert json.loads((place / "history.jsonl").read_text()) == {"loss": 1.0}
    assert [path.name for path in place.parent.iterdir()] == ["run"]


def test_the_remains_of_a_killed_training_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".run.part").mkdir()
    (tmp_path / ".run.part" / "corpus.ids").touch()
    with new_run(tmp_path / "run", overwrite=False) as run:
        run.settle()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_old_run_stays_until_the_new_one_is_settled(tmp_path: Path) -> None:
    old = folder_with(tmp_path / "run", {1: 1.0})
    (old.path / ".epoch-002.weights.h5.tmp").touch()
    with pytest.raises(CharlstmError, match="`overwrite`"), new_run(old.path, overwrite=False):
        pass
    with new_run(old.path, overwrite=True):
        assert old.epochs() == [1]
    assert old.epochs() == [1]
    with new_run(old.path, overwrite=True) as run:
        run.write_config("")
        run.settle()
    assert sorted(path.name for path in old.path.iterdir()) == [".lock", "config.toml"]


@pytest.mark.parametrize("strange", ["notes.txt", "epoch-1.weights.h5", "sub/config.toml"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_are_not_part_of_a_run_are_never_touched(
    strange: str, *, overwrite: bool, tmp_path: Path
) -> None:
    run = folder_with(tmp_path / "run", {1: 1.0})
    (run.path / strange).parent.mkdir(exist_ok=True)
    (run.path / strange).touch()
    with (
        pytest.raises(CharlstmError, match="not part of a run"),
        new_run(run.path, overwrite=overwrite),
    ):
        pass
    assert (run.path / strange).exists()
    assert run.epochs() == [1]


def test_files_that_appear_meanwhile_are_not_touched_either(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with new_run(place, overwrite=True) as run:
        place.mkdir()
        (place / "notes.txt").touch()
        with pytest.raises(CharlstmError, match="not part of a run"):
            run.settle()
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "notes.txt"]


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    with new_run(tmp_path / "run", overwrite=False) as run:
        run.write_config("")
        run.settle()
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "elsewhere" / "config.toml").exists()


def test_the_error_names_an_impossible_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with (
            pytest.raises(CharlstmError, match=f"{place}: .*choose another folder with `run`"),
            new_run(place, overwrite=True),
        ):
            pass


def test_values_that_are_not_finite_are_not_written_to_the_history(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {})
    with pytest.raises(ValueError, match="JSON"):
        run.append_history({"loss": math.nan})
    assert not (run.path / "history.jsonl").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from charlstm.run.claim import new_run
point, count = int(sys.argv[1]), 0
def counted(function):
    def wrapped(*arguments, **rest):
        global count
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return function(*arguments, **rest)
    return wrapped
with new_run(Path("run"), overwrite=True) as run:
    run.write_config("units = 4\\n")
    run.write_corpus({})
    run.append_history({"kind": "new"})
    for name in ("rename", "replace", "mkdir", "rmdir", "unlink"):
        setattr(Path, name, counted(getattr(Path, name)))
    run.settle()
print(count)
"""


def test_a_kill_while_replacing_a_run_leaves_all_old_or_all_new_files(tmp_path: Path) -> None:
    """The folder itself is kept, as it may be a mount point."""
    outcomes = []
    for point in range(99):
        folder = tmp_path / str(point)
        folder.mkdir()
        run = folder_with(folder / "run", {1: 1.0, 2: 1.2})
        run.path.chmod(0o700)
        old = {path.name: path.read_bytes() for path in run.path.iterdir()}
        inode = run.path.stat().st_ino
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(point)],
            cwd=folder,
            check=False,
            capture_output=True,
        )
        assert done.returncode in {0, -9}, done.stderr
        recover_run(run.path)
        found = {p.name: p.read_bytes() for p in run.path.iterdir() if p.name != ".part"}
        found.pop(".lock", None)
        new = {"config.toml", "corpus.json", "history.jsonl"}
        assert found == old or (found.keys() == new and b"new" in found["history.jsonl"])
        assert (run.path.stat().st_ino, run.path.stat().st_mode & 0o777) == (inode, 0o700)
        outcomes.append(found == old)
        if done.returncode == 0:
            break
    assert point > 8
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes[0]
    assert not outcomes[-1]


@pytest.mark.parametrize("place", [".", "there", "there/"])
def test_a_run_can_be_created_in_an_existing_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount point or a shell's working directory cannot be replaced by a rename."""
    monkeypatch.chdir(tmp_path)
    folder = Path(place)
    folder.mkdir(exist_ok=True)
    for name in ("lost+found", ".DS_Store", ".nfs0000a1"):
        (folder / name).mkdir()
    inode = folder.stat().st_ino
    before = sorted(tmp_path.rglob("*"))
    with new_run(folder, overwrite=False) as run:
        run.write_config("")
    assert sorted(tmp_path.rglob("*")) == before
    (folder / ".part").mkdir()  # left by a killed training
    (folder / ".part" / "corpus.ids").touch()
    with new_run(folder, overwrite=False) as run:
        run.write_config("")
        assert not (folder / "config.toml").exists()
        run.settle()
        run.append_history({"loss": 1.0})
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {"config.toml", "history.jsonl", "lost+found", ".DS_Store", ".nfs0000a1"}
    assert folder.stat().st_ino == inode


def test_resuming_removes_only_temporary_files_of_a_run(tmp_path: Path) -> None:
    run = folder_with(tmp_path / "run", {1: 1.0})
    for name in ("sample.txt", ".DS_Store", "slurm-7.out"):
        (run.path / name).touch()
    (run.path / ".resume.weights.h5.x7.tmp").touch()
    with old_run(run.path) as opened:
        assert opened.epochs() == [1]
    assert (run.path / "sample.txt").exists()
    assert not list(run.path.glob(".*.tmp"))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP])
def test_without_file_locks_there_is_a_note(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    told: list[str] = []
    with new_run(tmp_path / "run", overwrite=False, tell=told.append) as run:
        run.settle()
    folder_with(tmp_path / "old", {1: 1.0})
    with old_run(tmp_path / "old", told.append):
        pass
    assert [line.partition(": ")[2] for line in told] == [
        "no locks on this file system; nothing stops a second training in it"
    ] * 2


def test_a_folder_in_which_files_cannot_be_replaced_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "replace", refused)
    with (
        pytest.raises(CharlstmError, match="run: cannot be written: Operation not permitted"),
        new_run(tmp_path / "run", overwrite=False),
    ):
        pass
    assert not list(tmp_path.iterdir())
