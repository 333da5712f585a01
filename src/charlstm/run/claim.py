"""Claim a run folder for one training: to create a run, or to resume one.

Meanwhile, any other training in the same folder is refused.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from charlstm import files, folders
from charlstm.errors import CharlstmError
from charlstm.files import write_errors
from charlstm.run.folder import CHOOSE_ANOTHER, LOCK, OUR_FILES, RunFolder
from charlstm.run.weights import Checkpoint

TEMPORARY = re.compile(files.TEMPORARY)  # left behind by a killed process
PART = ".part"  # subfolder for an unfinished run, if its folder exists already
OUR_FOLDERS = {PART, folders.ASIDE, folders.SETTLING}
# Files that file systems, desktops and mounts put into any folder.
SYSTEM_FILES = re.compile(
    r"lost\+found|\.nfs[0-9a-fA-F]+|\.DS_Store|\.directory|Thumbs\.db|desktop\.ini"
)
# Errors of file systems without locks.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EIO}

Tell = Callable[[str], object]


def _unheard(_: str) -> None:
    pass


class FollowingRun(RunFolder):
    """The folder of a worker that is not the chief: it has a history, but no weights."""

    def write_epoch(self, checkpoint: Checkpoint) -> Path:
        """Write nothing: the chief does."""
        return self.epoch_path(checkpoint.epoch)

    def write_resume(self, checkpoint: Checkpoint) -> None:
        """Write nothing: the chief does."""

    def keep_newest(self, count: int) -> None:
        """Remove nothing: there are no weights."""


class NewRun(RunFolder):
    """A run folder under construction, with a hidden name until ``settle``.

    It is created next to its place, or inside a folder that exists there already: that folder may
    be a mount point or the working directory of a shell, and so is kept.
    """

    def __init__(self, place: Path, *, overwrite: bool) -> None:
        self._target = Path(os.path.realpath(place))
        self.inside = self._target.is_dir()
        part = self._target / PART if self.inside else folders.part_of(self._target)
        super().__init__(part, place)
        self._overwrite = overwrite

    @property
    def replaced(self) -> RunFolder:
        """The run that will be replaced, which need not exist."""
        return RunFolder(self._target, self.place)

    def take_ids(self, other: RunFolder) -> None:
        """Link or copy the id file of another run."""
        with self._writing():
            files.link_or_copy(other.ids_path, self.ids_path)

    def settle(self) -> None:
        """Give the folder its final name; this replaces an older run if ``overwrite`` allows it.

        Raises CharlstmError if the place has been taken meanwhile.
        """
        old = check_place(self.place, overwrite=self._overwrite)
        with self._writing():
            if self.inside:
                folders.move_contents(self.path, self._target, old)
            else:
                folders.move_folder(self.path, self._target)
        self.path = self.place


@contextlib.contextmanager
def new_run(place: Path, *, overwrite: bool, tell: Tell = _unheard) -> Iterator[NewRun]:
    """Create a run folder, and remove it at the end unless it was settled.

    ``tell`` is called with notes for the user. Raises CharlstmError if the place is taken or not
    writable.
    """
    with contextlib.ExitStack() as stack:
        with write_errors(place, CHOOSE_ANOTHER):
            run = NewRun(place, overwrite=overwrite)
        check_place(place, overwrite=overwrite)
        part = run.path
        if run.inside:
            stack.enter_context(_locked(run.replaced.path, place, tell))
            shutil.rmtree(part, ignore_errors=True)
        elif part.is_dir():  # left by a killed training, or used by a running one
            with _locked(part, place, tell):
                shutil.rmtree(part, ignore_errors=True)
        parents = [folder for folder in part.parents if not folder.exists()]
        stack.callback(_remove_empty, parents)
        with write_errors(place, CHOOSE_ANOTHER):
            try:
                part.mkdir(parents=True)
            except FileExistsError:
                if not part.is_dir():
                    raise
                raise _in_use(place) from None
        if not run.inside:
            stack.enter_context(_locked(part, place, tell))
        # Only now: before, the folder could be that of another training that has just begun.
        stack.callback(shutil.rmtree, part, ignore_errors=True)
        with write_errors(place, CHOOSE_ANOTHER):
            folders.check_usable(part)
        yield run


@contextlib.contextmanager
def old_run(place: Path, tell: Tell = _unheard) -> Iterator[RunFolder]:
    """Open a run to resume it, and remove the temporary files of a killed training.

    Raises CharlstmError if another training is using it.
    """
    with _locked(place, place, tell):
        with write_errors(place, CHOOSE_ANOTHER):
            for path in place.iterdir():
                if TEMPORARY.fullmatch(path.name):
                    path.unlink()
            folders.check_usable(place)
        yield RunFolder(place)


@contextlib.contextmanager
def following_run(history: str) -> Iterator[FollowingRun]:
    """Create a temporary folder for a worker that is not the chief, with the chief's history."""
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        run = FollowingRun(Path(folder))
        files.replace_file(run.history_path, history.encode())
        yield run


def recover_run(place: Path) -> None:
    """Restore a run that a killed training was replacing: either the old run or the new one.

    Raises CharlstmError if another training is replacing it now.
    """
    with write_errors(place, CHOOSE_ANOTHER):
        if any((place / name).is_dir() for name in (folders.ASIDE, folders.SETTLING)):
            with _locked(place, place, _unheard):
                folders.recover_contents(place)


def check_place(place: Path, *, overwrite: bool) -> list[str]:
    """Return the names of the run's files in a folder.

    Raises CharlstmError if it holds a run that may not be overwritten, or any other files.
    """
    with write_errors(place, CHOOSE_ANOTHER):
        if place.exists() and not place.is_dir():
            raise CharlstmError(f"{place}: not a folder", CHOOSE_ANOTHER)
        names = sorted(path.name for path in place.iterdir()) if place.exists() else []
        names = [n for n in names if n not in OUR_FOLDERS and not SYSTEM_FILES.fullmatch(n)]
        strange = [n for n in names if not OUR_FILES.fullmatch(n) or (place / n).is_dir()]
    if strange:
        raise CharlstmError(
            f"{place}: contains {strange[0]}, which is not part of a run", CHOOSE_ANOTHER
        )
    names = [name for name in names if name != LOCK]
    if names and not overwrite:
        hint = f"replace it with {{overwrite}}, or {CHOOSE_ANOTHER}"
        raise CharlstmError(f"{place}: already contains a run", hint)
    return names


def _remove_empty(parents: list[Path]) -> None:
    """Remove folders, from the innermost, unless they are in use."""
    for folder in parents:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _in_use(place: Path) -> CharlstmError:
    return CharlstmError(
        f"{place}: another training is using it",
        f"wait until it has ended, or {CHOOSE_ANOTHER}",
    )


@contextlib.contextmanager
def _locked(folder: Path, place: Path, tell: Tell) -> Iterator[None]:
    """Lock the folder for one training; the kernel releases the lock however the process ends.

    ``tell`` is called if the file system has no locks. Raises CharlstmError if another training
    holds the lock.
    """
    import fcntl  # missing on Windows, where sampling still works

    lock = folder / LOCK
    with write_errors(place, CHOOSE_ANOTHER):
        made = not lock.exists()
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another training has just removed the folder
            raise _in_use(place) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            made = False  # it is the other training's
            raise _in_use(place) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            tell(f"{place}: no locks on this file system; nothing stops a second training in it")
        yield
    finally:
        os.close(descriptor)
        if made and not _ours(folder):
            lock.unlink(missing_ok=True)  # leave the folder as it was


def _ours(folder: Path) -> bool:
    """Return whether a folder has files of a run other than the lock."""
    with contextlib.suppress(OSError):
        return any(OUR_FILES.fullmatch(p.name) and p.name != LOCK for p in folder.iterdir())
    return False
