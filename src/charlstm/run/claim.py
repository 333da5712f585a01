"""A run folder that one training holds: a new run in the making, or an old one to go on with.

Another training that wants the same folder is refused for as long.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from charlstm import files, folders
from charlstm.errors import CharlstmError
from charlstm.files import named_refusal
from charlstm.run.folder import ANOTHER, LOCK, OUR_FILES, RunFolder

TEMPORARY = re.compile(files.TEMPORARY)  # left behind by a killed process
PART = ".part"  # a run in the making, within a folder that is there already
OUR_FOLDERS = {PART, folders.ASIDE, folders.SETTLING}
# What file systems, desktops and mounts put into any folder.
DROPPINGS = re.compile(
    r"lost\+found|\.nfs[0-9a-fA-F]+|\.DS_Store|\.directory|Thumbs\.db|desktop\.ini"
)
# How file systems say that they have no locks.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EIO}

Tell = Callable[[str], object]


def _unheard(_: str) -> None:
    pass


class NewRun(RunFolder):
    """A run folder in the making, under a hidden name until it is settled.

    It is beside its place if there is nothing, or else within the folder that is there, which then
    stays what it is: a mount point, or the working folder of a shell.
    """

    def __init__(self, place: Path, *, overwrite: bool) -> None:
        self._target = Path(os.path.realpath(place))
        self.inside = self._target.is_dir()
        part = self._target / PART if self.inside else folders.part_of(self._target)
        super().__init__(part, place)
        self._overwrite = overwrite

    @property
    def replaced(self) -> RunFolder:
        """The run that stands in the place, which need not exist."""
        return RunFolder(self._target, self.place)

    def take_ids(self, other: RunFolder) -> None:
        """Take over the id file of another run."""
        with self._writing():
            files.link_or_copy(other.ids_path, self.ids_path)

    def settle(self) -> None:
        """Give the folder its name; an older run there goes now, if it may.

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
    """Make a run folder that is gone again at the end unless it was settled.

    ``tell`` hears what a user should know. Raises CharlstmError if the place is taken or cannot be
    written.
    """
    with contextlib.ExitStack() as stack:
        with named_refusal(place, ANOTHER):
            run = NewRun(place, overwrite=overwrite)
        check_place(place, overwrite=overwrite)
        if run.inside:
            stack.enter_context(_locked(run.replaced.path, place, tell))
        elif run.path.is_dir():  # of a training that was killed, or of one that is running
            with _locked(run.path, place, tell):
                pass
        part = run.path
        shutil.rmtree(part, ignore_errors=True)
        parents = [folder for folder in part.parents if not folder.exists()]
        stack.callback(_remove, part, parents)
        with named_refusal(place, ANOTHER):
            part.mkdir(parents=True)
            folders.try_out(part)
        if not run.inside:
            stack.enter_context(_locked(part, place, tell))
        yield run


@contextlib.contextmanager
def old_run(place: Path, tell: Tell = _unheard) -> Iterator[RunFolder]:
    """Open a run to go on with it, and remove what a killed training left half-written.

    Raises CharlstmError if another training runs in it.
    """
    with _locked(place, place, tell):
        with named_refusal(place, ANOTHER):
            for path in place.iterdir():
                if TEMPORARY.fullmatch(path.name):
                    path.unlink()
            folders.try_out(place)
        yield RunFolder(place)


def recover_run(place: Path) -> None:
    """Make a run whole that a killed training was just replacing: the old one, or the new one.

    Raises CharlstmError if a training is doing so now.
    """
    with named_refusal(place, ANOTHER):
        if any((place / name).is_dir() for name in (folders.ASIDE, folders.SETTLING)):
            with _locked(place, place, _unheard):
                folders.recover_contents(place)


def check_place(place: Path, *, overwrite: bool) -> list[str]:
    """Refuse a folder that holds a run, unless it may be replaced, or anything else, always.

    Returns the names of the files of the run. Raises CharlstmError.
    """
    with named_refusal(place, ANOTHER):
        if place.exists() and not place.is_dir():
            raise CharlstmError(f"{place}: not a folder", ANOTHER)
        names = sorted(path.name for path in place.iterdir()) if place.exists() else []
        names = [n for n in names if n not in OUR_FOLDERS and not DROPPINGS.fullmatch(n)]
        strange = [n for n in names if not OUR_FILES.fullmatch(n) or (place / n).is_dir()]
    if strange:
        raise CharlstmError(f"{place}: holds {strange[0]}, which is not part of a run", ANOTHER)
    names = [name for name in names if name != LOCK]
    if names and not overwrite:
        raise CharlstmError(f"{place}: holds a run", f"replace it with {{overwrite}}, or {ANOTHER}")
    return names


def _remove(part: Path, parents: list[Path]) -> None:
    """Remove a folder in the making, if it is still there, and those made for it."""
    shutil.rmtree(part, ignore_errors=True)
    for folder in parents:
        with contextlib.suppress(OSError):  # it holds something: then it stays
            folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path, place: Path, tell: Tell) -> Iterator[None]:
    """Hold the folder for one training; the kernel frees it, whatever ends the process.

    Where there are no locks, ``tell`` hears it. Raises CharlstmError if another one has it.
    """
    import fcntl  # not on Windows, where one can still sample

    lock = folder / LOCK
    with named_refusal(place, ANOTHER):
        made = not lock.exists()
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CharlstmError(
                f"{place}: another training is running in it", f"wait for its end, or {ANOTHER}"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            tell(f"{place}: there are no locks; a second training in it would not be noticed")
        yield
    finally:
        os.close(descriptor)
        if made and not _ours(folder):
            lock.unlink(missing_ok=True)  # the folder is as it was


def _ours(folder: Path) -> bool:
    """Tell whether a folder has files of a run, beside the lock."""
    with contextlib.suppress(OSError):
        return any(OUR_FILES.fullmatch(p.name) and p.name != LOCK for p in folder.iterdir())
    return False
