"""A run folder that one training holds: made new beside its place, or taken to go on with.

Another training that wants the same folder is refused for as long.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from charlstm import files
from charlstm.errors import CharlstmError
from charlstm.files import named_refusal
from charlstm.run.folder import ANOTHER, LOCK, OUR_FILES, RunFolder

TEMPORARY = re.compile(files.TEMPORARY)  # left behind by a killed process


class NewRun(RunFolder):
    """A run folder in the making: beside its place, under a hidden name, until it is settled."""

    def __init__(self, place: Path, *, overwrite: bool) -> None:
        self._target = Path(os.path.realpath(place))
        super().__init__(files.part_of(self._target), place)
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
        check_place(self.place, overwrite=self._overwrite)
        with self._writing():
            files.move_folder(self.path, self._target)
        self.path = self.place


@contextlib.contextmanager
def new_run(place: Path, *, overwrite: bool) -> Iterator[NewRun]:
    """Make a run folder that is gone again at the end unless it was settled.

    Raises CharlstmError if the place is taken or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with named_refusal(place, ANOTHER):
            run = NewRun(place, overwrite=overwrite)
            part, target = run.path, run.replaced.path
            _recover(target, place)
        check_place(place, overwrite=overwrite)
        if target.is_dir() and any(target.iterdir()):
            stack.enter_context(_locked(target, place))
        if part.is_dir():  # of a training that was killed, or of one that is running
            with _locked(part, place):
                shutil.rmtree(part, ignore_errors=True)
        parents = [folder for folder in part.parents if not folder.exists()]
        stack.callback(_remove, part, parents)
        with named_refusal(place, ANOTHER):
            part.mkdir(parents=True)
        stack.enter_context(_locked(part, place))
        yield run


@contextlib.contextmanager
def old_run(place: Path) -> Iterator[RunFolder]:
    """Open a run to go on with it, and remove what a killed training left half-written.

    Raises CharlstmError if the folder holds anything else, or another training runs in it.
    """
    check_place(place, overwrite=True)
    with _locked(place, place):
        with named_refusal(place, ANOTHER):
            for path in place.iterdir():
                if TEMPORARY.fullmatch(path.name):
                    path.unlink()
        yield RunFolder(place)


def recover_run(place: Path) -> None:
    """Put a run back that a killed training had put aside to replace it.

    Raises CharlstmError if a training is just doing so.
    """
    with named_refusal(place, ANOTHER):
        _recover(Path(os.path.realpath(place)), place)


def check_place(place: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a run, unless it may be replaced, or anything else, always.

    Raises CharlstmError.
    """
    with named_refusal(place, ANOTHER):
        if place.exists() and not place.is_dir():
            raise CharlstmError(f"{place}: not a folder", ANOTHER)
        names = sorted(path.name for path in place.iterdir()) if place.exists() else []
        strange = [n for n in names if not OUR_FILES.fullmatch(n) or (place / n).is_dir()]
    if strange:
        raise CharlstmError(f"{place}: holds {strange[0]}, which is not part of a run", ANOTHER)
    if names and not overwrite:
        raise CharlstmError(f"{place}: holds a run", f"replace it with {{overwrite}}, or {ANOTHER}")


def _recover(target: Path, place: Path) -> None:
    aside = files.aside_of(target)
    if aside.is_dir():
        with _locked(aside, place):
            files.recover_folder(target)


def _remove(part: Path, parents: list[Path]) -> None:
    """Remove a folder in the making, if it is still there, and those made for it."""
    shutil.rmtree(part, ignore_errors=True)
    for folder in parents:
        with contextlib.suppress(OSError):  # it holds something: then it stays
            folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path, place: Path) -> Iterator[None]:
    """Hold the folder for one training; the kernel frees it, whatever ends the process.

    Raises CharlstmError if another one has it.
    """
    import fcntl  # not on Windows, where one can still sample

    with named_refusal(place, ANOTHER):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CharlstmError(
                f"{place}: another training is running in it", f"wait for its end, or {ANOTHER}"
            ) from None
        yield
    finally:
        os.close(descriptor)
