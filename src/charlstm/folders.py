"""Replace a folder, or all of its contents, atomically: either the old or the new one exists.

Knows nothing of the contents of folders.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from charlstm.files import replace_file, shortened, sync, sync_folder

ASIDE, SETTLING = ".old", ".settling"  # subfolders for the old files and for the new ones


@contextlib.contextmanager
def made_beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path on the file system of ``path``, for content that is moved there.

    Content that has not been moved by the end is removed. Raises OSError.
    """
    with tempfile.TemporaryDirectory(".tmp", f".{shortened(path.name)}.", path.parent) as folder:
        yield Path(folder) / f"new{suffix}"


def move_folder(new: Path, path: Path) -> None:
    """Move a finished folder to ``path``; a folder there is put aside first, then removed.

    If the process is killed between the two moves, ``recover_folder`` restores the old folder.

    Raises OSError.
    """
    for content in [*new.rglob("*"), new]:
        sync(content)
    aside = aside_of(path)
    try:
        if path.exists():
            path.rename(aside)
        new.rename(path)
    except BaseException:  # including Ctrl+C between the two
        recover_folder(path)
        raise
    sync_folder(path.parent)
    recover_folder(path)


def recover_folder(path: Path) -> None:
    """Clean up after an interrupted ``move_folder``: restore the old folder if none is in place.

    If the new folder is in place, the old one is removed.

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
    """Return the path to which ``move_folder`` moves the old folder."""
    return path.with_name(f".{shortened(path.name)}.old")


def part_of(path: Path) -> Path:
    """Return the hidden path next to ``path`` for a folder that is not complete yet."""
    return path.with_name(f".{shortened(path.name)}.part")


def move_contents(new: Path, folder: Path, old: Iterable[str]) -> None:
    """Replace the files ``old`` of a folder by all files of its subfolder ``new``.

    The folder itself stays in place: it may be a mount point, or the working directory of a shell.
    If the process is killed, ``recover_contents`` completes the replacement or undoes it.

    Raises OSError.
    """
    for content in new.iterdir():
        sync(content)
    aside = folder / ASIDE
    try:
        aside.mkdir()
        for name in old:
            (folder / name).rename(aside / name)
        new.rename(folder / SETTLING)  # the commit point: recovery now completes the replacement
        sync_folder(folder)
    finally:
        recover_contents(folder)


def recover_contents(folder: Path) -> None:
    """Clean up after an interrupted ``move_contents``: undo it, or complete it if committed.

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


def check_usable(folder: Path) -> None:
    """Check that a folder allows what will be done there later: write, sync, replace, rename.

    Raises OSError.
    """
    trial = folder / ".trial.tmp"
    for content in (b"one", b"two"):
        replace_file(trial, content)
    trial.unlink()


def size(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
