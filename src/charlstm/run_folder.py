"""A run folder on disk: its file names, how it comes to be, which of its epochs is meant.

The only room that knows file names in a run folder. Knows no layout of a weights file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charlstm.checkpoint import Checkpoint, read, sync_folder, write, write_file
from charlstm.errors import CharlstmError
from charlstm.history import best, epochs, parse_line

CONFIG, IDS, CORPUS, HISTORY = "config.toml", "corpus.ids", "corpus.json", "history.jsonl"
PICTURE = "loss.png"
RESUME, LOCK = "resume.weights.h5", ".lock"
TEMPORARY = re.compile(r"\..*\.tmp")  # left behind by a killed process
PART = re.compile(r"\..*\.part")  # a run folder in the making
EVENTS = re.compile(r"events\.out\.tfevents\..+")  # TensorFlow chooses the name
EPOCH_FILE = re.compile(r"epoch-(\d{3,})\.weights\.h5")
OUR_FILES = re.compile(
    rf"{CONFIG}|{IDS}|{CORPUS}|{HISTORY}|{EPOCH_FILE.pattern}|{re.escape(RESUME)}|{re.escape(PICTURE)}"
    rf"|{re.escape(LOCK)}|{EVENTS.pattern}|{TEMPORARY.pattern}"
)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn the system's refusals into one line that names the folder.

    Raises CharlstmError instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise CharlstmError(
            f"{place}: cannot be written: {error.strerror or error}; choose another with --run"
        ) from None


class RunFolder:
    """The folder of one training; ``place_path`` is what a user calls it."""

    def __init__(self, path: Path) -> None:
        self.path = self.place_path = path

    @property
    def kept(self) -> RunFolder:
        """The run whose encoded text can serve: this one."""
        return self

    def keep_ids(self) -> None:
        """Take over the id file of that run, which is this one's."""

    @property
    def ids_path(self) -> Path:
        """Where the encoded text belongs."""
        return self.path / IDS

    def write_config(self, toml: str) -> None:
        """Keep the options that were really used."""
        with writing(self.place_path):
            write_file(self.path / CONFIG, toml.encode())

    def write_corpus(self, identity: dict[str, Any]) -> None:
        """Keep what tells the text from any other."""
        with writing(self.place_path):
            write_file(self.path / CORPUS, json.dumps(identity).encode())

    def read_corpus(self) -> Any:
        """Return what ``write_corpus`` kept, unchecked; None if that cannot be read."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return json.loads((self.path / CORPUS).read_bytes())
        return None

    @property
    def config_path(self) -> str:
        """Where the options are kept that were really used."""
        return str(self.path / CONFIG)

    def epoch_path(self, epoch: int) -> Path:
        """Return the weights file of an epoch, which need not exist."""
        return self.path / f"epoch-{epoch:03d}.weights.h5"

    def write_epoch(self, checkpoint: Checkpoint) -> Path:
        """Write the weights file of an epoch."""
        path = self.epoch_path(checkpoint.epoch)
        with writing(self.place_path):
            write(path, checkpoint)
        return path

    @property
    def resume_path(self) -> Path:
        """The file that ``--resume`` reads, which need not exist."""
        return self.path / RESUME

    def write_resume(self, checkpoint: Checkpoint) -> None:
        """Write what a training needs to go on: the commit point of all that was written before."""
        with writing(self.place_path):
            write(self.resume_path, checkpoint)

    def place(self) -> None:
        """Give the folder its name, which this one has."""

    def append_history(self, line: dict[str, Any]) -> None:
        """Add one line to the history."""
        with writing(self.place_path), (self.path / HISTORY).open("a", encoding="ascii") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def sync_history(self) -> int:
        """Make the history survive a power cut; return its length in bytes."""
        with writing(self.place_path), (self.path / HISTORY).open("a", encoding="ascii") as file:
            os.fsync(file.fileno())
            return file.tell()

    def cut_history(self, length: int) -> None:
        """Forget what was written to the history after it had this many bytes.

        Raises CharlstmError if it has fewer.
        """
        with writing(self.place_path), (self.path / HISTORY).open("a", encoding="ascii") as file:
            if file.tell() < length:
                raise CharlstmError(
                    f"{self.path / HISTORY}: {length:,} bytes belong in it, and it has "
                    f"{file.tell():,}; put it back, or start again with --overwrite"
                )
            file.truncate(length)

    def history(self, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Return the whole lines of the history from a byte on, and where they end."""
        found = list(self._lines(start))
        return [line for line, _ in found], found[-1][1] if found else start

    def write_picture(self, png: bytes) -> None:
        """Write the picture of the losses."""
        with writing(self.place_path):
            write_file(self.path / PICTURE, png)

    def remove_events(self) -> None:
        """Remove the event files."""
        with writing(self.place_path):
            for path in self.path.iterdir():
                if EVENTS.fullmatch(path.name):
                    path.unlink()

    def epochs(self) -> list[int]:
        """Return the epochs that have a weights file, in order."""
        names = (EPOCH_FILE.fullmatch(path.name) for path in self.path.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def best_epoch(self) -> int:
        """Return the epoch of the lowest finite validation loss, the earlier of equals.

        Without validation, the last. Raises CharlstmError if there is no epoch.
        """
        there = self._some_epochs()
        found = best(e for e in epochs(self.history()[0]) if e.epoch in there)
        return there[-1] if found is None else found

    def epochs_since_best(self) -> int:
        """Return how many epochs the history has after that of the lowest validation loss."""
        judged = [e for e in epochs(self.history()[0]) if e.valid_loss is not None]
        found = best(judged)
        return 0 if found is None else max(e.epoch for e in judged) - found

    def keep_newest(self, count: int) -> None:
        """Remove the weights files of all epochs but the newest and the best."""
        with writing(self.place_path):
            for epoch in self.epochs()[:-count]:
                if epoch != self.best_epoch():
                    self.epoch_path(epoch).unlink()

    def choose(self, epoch: str) -> Path:
        """Return the weights file of ``best``, ``last`` or an epoch by its number.

        Raises CharlstmError if there is none.
        """
        if epoch == "best":
            return self.epoch_path(self.best_epoch())
        if epoch == "last" and self._has_steps_after_the_last_epoch():
            return self.resume_path
        epochs = self._some_epochs()
        chosen = epochs[-1] if epoch == "last" else int(epoch)
        if chosen not in epochs:
            there = ", ".join(map(str, epochs))
            raise CharlstmError(f"{self.path}: has no epoch {chosen}; there are {there}")
        return self.epoch_path(chosen)

    def exists(self) -> bool:
        """Tell whether there is something that a training can go on from."""
        return self.path.is_dir() and (self.resume_path.exists() or bool(self.epochs()))

    def last_state(self, *, arrays: bool = True) -> tuple[Checkpoint, str]:
        """Return the file to go on from, and what is wrong with the resume file if it is another.

        That is then the newest good epoch's. Raises CharlstmError if there is none.
        """
        try:
            return read(self.resume_path, arrays=arrays), ""
        except CharlstmError as error:
            problem = str(error)
        for epoch in reversed(self.epochs()):
            with contextlib.suppress(CharlstmError):
                return read(self.epoch_path(epoch), arrays=arrays), problem
        raise CharlstmError(f"{problem}; there is no good epoch either; start with --overwrite")

    def history_until(self, epoch: int) -> int:
        """Return how many bytes the history has up to the line of an epoch or the last before."""
        until = 0
        for line, end in self._lines():
            match line:
                case {"kind": "epoch", "epoch": int(found)} if found <= epoch:
                    until = end
        return until

    def _has_steps_after_the_last_epoch(self) -> bool:
        """Tell whether the resume file has weights that no epoch file has."""
        with contextlib.suppress(OSError, CharlstmError):
            times = [self.epoch_path(e).stat().st_mtime_ns for e in self.epochs()[-1:]]
            if self.resume_path.stat().st_mtime_ns > max(times, default=0):
                resume = read(self.resume_path, arrays=False).resume
                return resume is not None and resume.position.get("step") != 0
        return False

    def _some_epochs(self) -> list[int]:
        epochs = self.epochs()
        if not epochs:
            raise CharlstmError(f"{self.path}: no finished epoch in it (yet); train first")
        return epochs

    def _lines(self, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield the whole lines of the history from a byte on, and where each ends, in bytes."""
        with contextlib.suppress(FileNotFoundError), (self.path / HISTORY).open("rb") as file:
            file.seek(start)
            for text in file:
                if text.endswith(b"\n"):  # the last one can be in the making
                    start += len(text)
                    yield parse_line(text.decode("utf-8", "replace")), start


class NewRun(RunFolder):
    """A run folder in the making: beside its place, under a hidden name, until it is placed."""

    def __init__(self, place: Path, *, overwrite: bool) -> None:
        target = Path(os.path.realpath(place))
        super().__init__(target.with_name(f".{target.name}.part"))
        self.place_path = place
        self.overwrite = overwrite
        self._target = target

    @property
    def kept(self) -> RunFolder:
        """The run that stands in the place, which need not exist."""
        return RunFolder(self._target)

    def keep_ids(self) -> None:
        """Take over the id file of the run that is replaced."""
        try:
            os.link(self.kept.ids_path, self.ids_path)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.kept.ids_path, self.ids_path)

    def place(self) -> None:
        """Give the folder its name; an older run there goes now, if it may.

        Raises CharlstmError if the place has been taken meanwhile.
        """
        check_place(self.place_path, overwrite=self.overwrite)
        with writing(self.place_path):
            if self._target.exists():
                for path in self._target.iterdir():
                    path.unlink()
            self.path.rename(self._target)
            sync_folder(self._target.parent)
        self.path = self.place_path


@contextlib.contextmanager
def new_run(place: Path, *, overwrite: bool) -> Iterator[NewRun]:
    """Make a run folder that is gone again at the end unless it was placed.

    Raises CharlstmError if the place is taken or cannot be written.
    """
    check_place(place, overwrite=overwrite)
    run = NewRun(place, overwrite=overwrite)
    part = run.path
    with contextlib.ExitStack() as stack:
        if run.kept.path.is_dir() and any(run.kept.path.iterdir()):
            stack.enter_context(_locked(run.kept.path, place))
        if part.is_dir():  # of a training that was killed, or of one that is running
            with _locked(part, place):
                shutil.rmtree(part, ignore_errors=True)
        made = _missing_parents(part)
        stack.callback(_remove, part, made)
        with writing(place):
            part.mkdir(parents=True)
        stack.enter_context(_locked(part, place))
        yield run


def _remove(part: Path, made: list[Path]) -> None:
    """Remove a folder in the making, if it is still there, and those made for it."""
    shutil.rmtree(part, ignore_errors=True)
    for folder in made:
        with contextlib.suppress(OSError):  # it holds something: then it stays
            folder.rmdir()


@contextlib.contextmanager
def old_run(place: Path) -> Iterator[RunFolder]:
    """Open a run to go on with it, and remove what a killed training left half-written.

    Raises CharlstmError if the folder holds anything else, or another training runs in it.
    """
    check_place(place, overwrite=True)
    with _locked(place, place):
        with writing(place):
            for path in place.iterdir():
                if TEMPORARY.fullmatch(path.name):
                    path.unlink()
        yield RunFolder(place)


@contextlib.contextmanager
def _locked(folder: Path, place: Path) -> Iterator[None]:
    """Hold the folder for one training; the kernel frees it, whatever ends the process.

    Raises CharlstmError if another one has it.
    """
    import fcntl  # not on Windows, where one can still sample

    with writing(place):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CharlstmError(
                f"{place}: another training is running in it; wait for its end, "
                "or choose another with --run"
            ) from None
        yield
    finally:
        os.close(descriptor)


def check_place(place: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a run, unless it may be replaced, or anything else, always.

    Raises CharlstmError.
    """
    with writing(place):
        if place.exists() and not place.is_dir():
            raise CharlstmError(f"{place}: not a folder; choose another with --run")
        names = sorted(path.name for path in place.iterdir()) if place.exists() else []
        strange = [n for n in names if not OUR_FILES.fullmatch(n) or (place / n).is_dir()]
    if strange:
        raise CharlstmError(
            f"{place}: holds {strange[0]}, which is not part of a run; choose another with --run"
        )
    if names and not overwrite:
        raise CharlstmError(
            f"{place}: holds a run; replace it with --overwrite, or choose another with --run"
        )


def _missing_parents(path: Path) -> list[Path]:
    """Return the folders above a path that do not exist yet, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()]
