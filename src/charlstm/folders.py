"""A folder, or all that is in one, replaced as a whole: the old or the new is there, never neither.

Knows no folder's meaning.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from charlstm.files import replace_file, shortened, sync, sync_folder

ASIDE, SETTLING = ".old", ".settling"  # within a folder: the old files, and the new ones


@contextlib.contextmanager
def made_beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """Give a name beside a path, on its file system, for what is to be moved there.

    What is still under that name at the end is removed. Raises OSError.
    """
    with tempfile.TemporaryDirectory(".tmp", f".{shortened(path.name)}.", path.parent) as folder:
        yield Path(folder) / f"new{suffix}"


def move_folder(new: Path, path: Path) -> None:
    """Give a folder that is written its name, first putting aside one that has it.

    If the process is killed between the two, ``recover_folder`` brings the old one back.

    Raises OSError.
    """
    for content in [*new.rglob("*"), new]:
        sync(content)
    aside = aside_of(path)
    try:
        if path.exists():
            path.rename(aside)
        new.rename(path)
    except BaseException:  # Ctrl+C between the two as well
        recover_folder(path)
        raise
    sync_folder(path.parent)
    recover_folder(path)


def recover_folder(path: Path) -> None:
    """Put back the old folder of a ``move_folder`` that did not end, or remove it if it did.

    Raises OSError.
    """
    aside = aside_of(path)
    if not aside.is_dir():
        return
    if path.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(path)
        sync_folder(path.parent)


def aside_of(path: Path) -> Path:
    """Return where ``move_folder`` puts the old folder while the new one gets its name."""
    return path.with_name(f".{shortened(path.name)}.old")


def part_of(path: Path) -> Path:
    """Return the hidden name beside a path that a folder in the making has."""
    return path.with_name(f".{shortened(path.name)}.part")


def move_contents(new: Path, folder: Path, old: Iterable[str]) -> None:
    """Move all files of a folder up into the one that it is in, where they replace those of old.

    The outer folder itself stays what it is: a mount point, somebody's working folder. If the
    process is killed, ``recover_contents`` makes it all old or all new.

    Raises OSError.
    """
    for content in new.iterdir():
        sync(content)
    aside = folder / ASIDE
    try:
        aside.mkdir()
        for name in old:
            (folder / name).rename(aside / name)
        new.rename(folder / SETTLING)  # from here on it is the new ones
        sync_folder(folder)
    finally:
        recover_contents(folder)


def recover_contents(folder: Path) -> None:
    """Put back the old files of a ``move_contents`` that did not come far, or else complete it.

    Raises OSError.
    """
    aside, settling = folder / ASIDE, folder / SETTLING
    source = settling if settling.is_dir() else aside
    if source.is_dir():
        for path in source.iterdir():
            path.replace(folder / path.name)
        source.rmdir()
        sync_folder(folder)
    shutil.rmtree(aside, ignore_errors=True)


def try_out(folder: Path) -> None:
    """Do in a folder what will be done there later: write, sync, replace, rename.

    Raises OSError.
    """
    trial = folder / ".trial.tmp"
    for content in (b"one", b"two"):
        replace_file(trial, content)
    trial.unlink()


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
