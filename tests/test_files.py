"""Files and folders are replaced completely or not at all."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from charlstm import files
from charlstm.files import replace_file
from charlstm.folders import aside_of, move_folder, part_of, recover_folder

LONG = "n" * 250  # file systems allow 255 bytes


def test_replace_file_writes_the_content_and_leaves_no_other_file(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", [LONG, "é" * 125, "👩" * 62, "\udcff" * 250, ".", "a b\nc"])
def test_any_file_name_works(name: str, tmp_path: Path) -> None:
    if name == ".":
        name = ".hidden"
    replace_file(tmp_path / name, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_different_names_get_different_hidden_names() -> None:
    names = [LONG, LONG[:-1], LONG[:-1] + "m", "n", "\udcff", "\udcfe", "é" * 125, "é" * 124 + "n"]
    for hidden in (aside_of, part_of):
        assert len({hidden(Path("folder", name)) for name in names}) == len(names)


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    """At a predictable name, an attacker could place a link to another file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".file.tmp").symlink_to("victim")
    replace_file(tmp_path / "file", b"new")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_replaced_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    replace_file(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_gets_the_default_mode(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (tmp_path / "plain").touch()
        replace_file(tmp_path / "ours", b"")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_concurrent_writers_each_write_a_complete_file(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([i]) * 100_000 for i in range(4)]
    errors: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(20):
                replace_file(path, content)
                assert path.read_bytes() in contents
        except BaseException as error:  # noqa: BLE001 - an exception in a thread would be lost
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "is_fatal"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)]
)
def test_a_file_system_that_cannot_sync_folders_is_accepted(
    number: int, *, is_fatal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    (tmp_path / "new").mkdir()
    writes: list[Callable[[], None]] = [
        lambda: replace_file(tmp_path / "file", b"whole"),
        lambda: move_folder(tmp_path / "new", tmp_path / "folder"),
    ]
    for write in writes:
        if is_fatal:
            with pytest.raises(OSError, match=os.strerror(number)):
                write()
        else:
            write()
    assert (tmp_path / "file").read_bytes() == b"whole"


KILLED = """
import os, signal, sys
from pathlib import Path
from charlstm.folders import move_folder
point, names, rename, rmtree = int(sys.argv[1]), iter(range(99)), Path.rename, None
def killed(path, target):
    if next(names) == point:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(path, target)
Path.rename = killed
import shutil
real = shutil.rmtree
def removed(*arguments, **rest):
    if point == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*arguments, **rest)
shutil.rmtree = removed
move_folder(Path("new"), Path("folder").absolute())
"""


@pytest.mark.parametrize(("point", "left"), [(0, "old"), (1, "old"), (2, "new"), (3, "new")])
def test_a_kill_while_replacing_a_folder_leaves_the_old_or_the_new_one(
    point: int, left: str, tmp_path: Path
) -> None:
    """Killed before the old is put aside, before the new is moved, before the old is removed."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "old").rename(tmp_path / "folder")
    done = subprocess.run([sys.executable, "-c", KILLED, str(point)], cwd=tmp_path, check=False)
    assert done.returncode == (0 if point == 3 else -9)
    recover_folder(tmp_path / "folder")
    assert (tmp_path / "folder/file").read_text() == left
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"folder"} | ({"new"} if left == "old" else set())


def test_append_line_appends_and_truncate_removes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    files.append_line(path, "one")
    files.append_line(path, "two")
    files.sync(path)
    assert path.read_bytes() == b"one\ntwo\n"
    files.truncate(path, 4)
    assert path.read_bytes() == b"one\n"
