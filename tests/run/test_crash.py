"""What a save leaves behind if the machine crashes or the disk fails, at every point of it."""

import contextlib
import errno
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlstm.architecture import ModelConfig, shapes
from charlstm.errors import CharlstmError
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary

MODEL = ModelConfig(units=5, layers=1)
VOCABULARY = Vocabulary("abcdefg")
NAME, TEMPORARY = "resume.weights.h5", ".resume.weights.h5.tmp"
CUTS = 300  # number of lengths to try of a partly written file


def made(epoch: int) -> Checkpoint:
    random = np.random.default_rng(epoch)
    return Checkpoint(
        epoch=epoch,
        model=MODEL,
        vocabulary=VOCABULARY,
        weights=shapes(MODEL, len(VOCABULARY)).map(lambda shape: random.random(shape, np.float32)),
        position={"step": epoch},
        states={"lstm/0": random.random((2, 5), np.float32)},
    )


@dataclass
class Disk:
    """A wrapper for the file operations: performs and records them, and can make one fail."""

    operations: list[tuple[str, bytes]] = field(default_factory=list)
    failing: int = -1
    error: int = 0

    def note(self, operation: str, content: bytes = b"") -> None:
        self.operations.append((operation, content))
        if len(self.operations) - 1 == self.failing:
            raise OSError(self.error, os.strerror(self.error))

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real_make, real_open, real_sync = tempfile.mkstemp, Path.open, os.fsync
        real_replace = os.replace

        def made(*arguments: Any) -> tuple[int, str]:
            self.note("create")
            return real_make(*arguments)

        def opened(path: Path, mode: str) -> Any:
            if mode != "w+b":
                return real_open(path, mode)
            file = real_open(path, mode, buffering=0)

            class Recording:
                def __enter__(self) -> Any:
                    return self

                def __exit__(self, *error: object) -> None:
                    file.close()

                @staticmethod
                def write(content: bytes) -> int:
                    disk.note("write", content)
                    return int(file.write(content))

                flush, fileno = staticmethod(file.flush), staticmethod(file.fileno)

            disk = self
            return Recording()

        def sync(descriptor: int) -> None:
            folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            self.note("sync folder" if folder else "sync")
            real_sync(descriptor)

        def renamed(*paths: Any) -> None:
            self.note("rename")
            real_replace(*paths)

        patch.setattr(tempfile, "mkstemp", made)
        patch.setattr(Path, "open", opened)
        patch.setattr(os, "fsync", sync)
        patch.setattr(os, "replace", renamed)


def crash_states(
    operations: list[tuple[str, bytes]], old: bytes
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield (number of operations done, possible contents of the folder after a crash then).

    A name is certain to survive once its folder is synced, and content once its file is. Before
    that, either may be there, be missing, or be partly written: truncated, or padded with zeros.
    """
    written, content_is_safe = b"", False
    renamed, names_are_safe = False, False
    for count, (operation, content) in enumerate([("", b""), *operations]):
        match operation:
            case "write":
                written, content_is_safe = written + content, False
            case "sync":
                content_is_safe = True
            case "rename":
                renamed, names_are_safe = True, False
            case "sync folder":
                names_are_safe = True
        contents = [written]
        if not content_is_safe:
            lengths = {len(written) * cut // CUTS for cut in range(CUTS)}
            contents += [written[:n] for n in lengths]
            contents += [written[:n].ljust(len(written), b"\0") for n in lengths]
        renames = [renamed] if names_are_safe or not renamed else [True, False]
        for found, there in itertools.product(contents, renames):
            yield count, {NAME: found} if there else {NAME: old, TEMPORARY: found}


def test_a_crash_anywhere_in_a_save_leaves_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, disk = tmp_path / NAME, Disk()
    write_checkpoint(path, made(1))
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        disk.install(patch)
        write_checkpoint(path, made(2))
    states = list(crash_states(disk.operations, old))
    assert len(states) >= 500
    seen = set()
    for count, files in states:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        epoch = read_checkpoint(path).epoch
        assert epoch == 2 if count == len(disk.operations) else epoch in {1, 2}
        seen.add(epoch)
    assert seen == {1, 2}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_any_file_operation_of_a_save_can_fail(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / NAME
    write_checkpoint(path, made(1))
    for failing in itertools.count():
        disk = Disk(failing=failing, error=error)
        with monkeypatch.context() as patch, contextlib.suppress(OSError):
            disk.install(patch)
            write_checkpoint(path, made(failing + 2))
            assert len(disk.operations) == failing, "an operation failed without an error"
        if len(disk.operations) == failing:  # no operations left to fail
            break
        renamed = disk.operations[-1][0] == "sync folder"
        assert read_checkpoint(path).epoch == (failing + 2 if renamed else 1)
        assert [file.name for file in tmp_path.iterdir()] == [NAME]
    assert failing == 5
    assert read_checkpoint(path).epoch == failing + 2


def test_a_flipped_bit_in_any_array_is_detected(tmp_path: Path) -> None:
    path, whole = tmp_path / NAME, made(1)
    write_checkpoint(path, whole)
    content = path.read_bytes()
    for array in (*whole.weights, *whole.states.values()):
        place = content.index(array.tobytes())
        for offset in {0, array.nbytes // 2, array.nbytes - 1}:
            spoilt = bytearray(content)
            spoilt[place + offset] ^= 4
            path.write_bytes(spoilt)
            with pytest.raises(CharlstmError, match="damaged"):
                read_checkpoint(path)
