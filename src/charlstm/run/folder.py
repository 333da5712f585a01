"""A run folder on disk: its file names, what is written to it, which of its epochs is meant.

The only room that knows file names in a run folder. Knows no layout of a weights file.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from charlstm import files
from charlstm.errors import CharlstmError
from charlstm.files import named_reading, named_refusal
from charlstm.run.description import Description
from charlstm.run.history import Epoch, best, epochs, read_lines
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint, read_description

CONFIG, IDS, CORPUS, HISTORY = "config.toml", "corpus.ids", "corpus.json", "history.jsonl"
PICTURE = "loss.png"
RESUME, LOCK = "resume.weights.h5", ".lock"
EVENTS = re.compile(r"events\.out\.tfevents\..+")  # TensorFlow chooses the name
EPOCH_FILE = re.compile(r"epoch-(\d{3,})\.weights\.h5")
OUR_FILES = re.compile(
    rf"{CONFIG}|{IDS}|{CORPUS}|{HISTORY}|{EPOCH_FILE.pattern}|{re.escape(RESUME)}|{re.escape(PICTURE)}"
    rf"|{re.escape(LOCK)}|{EVENTS.pattern}|{files.TEMPORARY}"
)
Content = TypeVar("Content")

ANOTHER = "choose another with {run}"  # the way out where a folder cannot serve


class RunFolder:
    """The folder of one training, at ``path``; ``place`` is what a user calls it."""

    def __init__(self, path: Path, place: Path | None = None) -> None:
        self.path = path
        self.place = place or path
        self._finished: list[Epoch] = []
        self._finished_until = 0  # bytes of the history

    @property
    def ids_path(self) -> Path:
        """Where the encoded text belongs."""
        return self.path / IDS

    def write_config(self, toml: str) -> None:
        """Keep the options that were really used."""
        self._write(CONFIG, toml.encode())

    def write_corpus(self, identity: dict[str, Any]) -> None:
        """Keep what tells the text from any other."""
        self._write(CORPUS, json.dumps(identity).encode())

    def read_corpus(self) -> Any:
        """Return what ``write_corpus`` kept, unchecked; None if that cannot be read."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return json.loads((self.path / CORPUS).read_bytes())
        return None

    @property
    def history_path(self) -> Path:
        """The lines of JSON about steps and epochs, which need not exist."""
        return self.path / HISTORY

    @property
    def config_path(self) -> Path:
        """Where the options are kept that were really used."""
        return self.path / CONFIG

    def epoch_path(self, epoch: int) -> Path:
        """Return the weights file of an epoch, which need not exist."""
        return self.path / f"epoch-{epoch:03d}.weights.h5"

    def write_epoch(self, checkpoint: Checkpoint) -> Path:
        """Write the weights file of an epoch."""
        path = self.epoch_path(checkpoint.epoch)
        with self._writing():
            write_checkpoint(path, checkpoint)
        return path

    @property
    def resume_path(self) -> Path:
        """The file that a resumed training reads, which need not exist."""
        return self.path / RESUME

    def write_resume(self, checkpoint: Checkpoint) -> None:
        """Write what a training needs to go on: the commit point of all that was written before."""
        with self._writing():
            write_checkpoint(self.resume_path, checkpoint)

    def settle(self) -> None:
        """Give the folder its name, which this one has."""

    def append_history(self, line: dict[str, Any]) -> None:
        """Add one line to the history."""
        with self._writing():
            files.append_line(self.history_path, json.dumps(line, allow_nan=False))

    def sync_history(self) -> int:
        """Make the history survive a power cut; return its length in bytes."""
        with self._writing():
            self.history_path.touch()
            files.sync(self.history_path)
            return self.history_path.stat().st_size

    def cut_history(self, length: int) -> None:
        """Forget what was written to the history after it had this many bytes.

        Raises CharlstmError if it has fewer.
        """
        with self._writing():
            self.history_path.touch()
            size = self.history_path.stat().st_size
            if size < length:
                raise CharlstmError(
                    f"{self.history_path}: {length:,} bytes belong in it, and it has {size:,}",
                    "put it back, or start again with {overwrite}",
                )
            files.truncate(self.history_path, length)
        self._finished, self._finished_until = [], 0

    def history(self, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Return the whole lines of the history from a byte on, and where they end."""
        lines = list(read_lines(self.history_path, start))
        return [line for line, _ in lines], lines[-1][1] if lines else start

    def finished_epochs(self) -> list[Epoch]:
        """Return what the history says of epochs; only what is new is read."""
        lines, self._finished_until = self.history(self._finished_until)
        self._finished += epochs(lines)
        return self._finished

    def write_picture(self, png: bytes) -> None:
        """Write the picture of the losses."""
        self._write(PICTURE, png)

    def remove_events(self) -> None:
        """Remove the event files."""
        with self._writing():
            for path in self.path.iterdir():
                if EVENTS.fullmatch(path.name):
                    path.unlink()

    def epochs(self) -> list[int]:
        """Return the epochs that have a weights file, in order."""
        with named_reading(self.path):
            names = [EPOCH_FILE.fullmatch(path.name) for path in self.path.iterdir()]
        return sorted(int(name[1]) for name in names if name)

    def best_epoch(self) -> int:
        """Return the epoch of the lowest finite validation loss, the earlier of equals.

        Without validation, the last. Raises CharlstmError if there is no epoch.
        """
        kept = self._epochs_to_choose_from()
        chosen = best(e for e in self.finished_epochs() if e.epoch in kept)
        return kept[-1] if chosen is None else chosen

    def epochs_since_best(self) -> int:
        """Return how many epochs the history has after that of the lowest validation loss."""
        judged = [e for e in self.finished_epochs() if e.valid_loss is not None]
        chosen = best(judged)
        return 0 if chosen is None else max(e.epoch for e in judged) - chosen

    def keep_newest(self, count: int) -> None:
        """Remove the weights files of all epochs but the newest and the best."""
        with self._writing():
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
        kept = self._epochs_to_choose_from()
        chosen = kept[-1] if epoch == "last" else int(epoch)
        if chosen not in kept:
            raise CharlstmError(
                f"{self.path}: has no epoch {chosen}", f"there are {', '.join(map(str, kept))}"
            )
        return self.epoch_path(chosen)

    def exists(self) -> bool:
        """Tell whether there is something to go on from; raise CharlstmError if that is hidden."""
        with named_reading(self.path):
            return self.path.is_dir() and (self.resume_path.exists() or bool(self.epochs()))

    def last_state(self) -> tuple[Checkpoint, str]:
        """Return the file to go on from, and what is wrong with the resume file if it is another.

        That is then the newest good epoch's. Raises CharlstmError if there is none.
        """
        return self._last(read_checkpoint)

    def last_description(self) -> tuple[Description, str]:
        """Return what the file of ``last_state`` says of its model; its arrays are not read."""
        return self._last(read_description)

    def _last(self, read: Callable[[Path], Content]) -> tuple[Content, str]:
        try:
            return read(self.resume_path), ""
        except CharlstmError as error:
            problem = str(error)
        for epoch in reversed(self.epochs()):
            with contextlib.suppress(CharlstmError):
                return read(self.epoch_path(epoch)), problem
        raise CharlstmError(problem, "there is no good epoch either; start again with {overwrite}")

    def history_until(self, epoch: int) -> int:
        """Return how many bytes the history has up to the line of an epoch or the last before."""
        until = 0
        for line, end in read_lines(self.history_path):
            match line:
                case {"kind": "epoch", "epoch": int(finished)} if finished <= epoch:
                    until = end
        return until

    def _has_steps_after_the_last_epoch(self) -> bool:
        """Tell whether the resume file has weights that no epoch file has."""
        with contextlib.suppress(OSError, CharlstmError):
            times = [self.epoch_path(e).stat().st_mtime_ns for e in self.epochs()[-1:]]
            if self.resume_path.stat().st_mtime_ns > max(times, default=0):
                position = read_description(self.resume_path).position
                return position is not None and position.get("step") != 0
        return False

    def _epochs_to_choose_from(self) -> list[int]:
        kept = self.epochs()
        if not kept:
            raise CharlstmError(f"{self.path}: no finished epoch in it (yet)", "train first")
        return kept

    def _write(self, name: str, content: bytes) -> None:
        with self._writing():
            files.replace_file(self.path / name, content)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return named_refusal(self.place, ANOTHER)
