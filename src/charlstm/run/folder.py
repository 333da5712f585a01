"""A run folder on disk: its file names, its contents, and the choice of an epoch.

The only module that knows the file names in a run folder. Knows no layout of a weights file.
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
from charlstm.files import read_errors, write_errors
from charlstm.run.description import Description
from charlstm.run.history import Epoch, best, end_of_epoch, epochs, read_lines
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint, read_description

CONFIG, IDS, CORPUS, HISTORY = "config.toml", "corpus.ids", "corpus.json", "history.jsonl"
INDEX, PICTURE = re.compile(r"(records|passages)\.index"), "loss.png"
RESUME, LOCK = "resume.weights.h5", ".lock"
EVENTS = re.compile(r"events\.out\.tfevents\..+")  # TensorFlow chooses the name
EPOCH_FILE = re.compile(r"epoch-(\d{3,})\.weights\.h5")
OUR_FILES = re.compile(
    rf"{CONFIG}|{IDS}|{CORPUS}|{HISTORY}|{EPOCH_FILE.pattern}|{re.escape(RESUME)}|{re.escape(PICTURE)}"
    rf"|{re.escape(LOCK)}|{INDEX.pattern}|{EVENTS.pattern}|{files.TEMPORARY}"
)
Content = TypeVar("Content")

CHOOSE_ANOTHER = "choose another folder with {run}"  # hint for a folder that cannot be used


class RunFolder:
    """The folder of one training, now at ``path``; messages call it ``place``, its final path."""

    def __init__(self, path: Path, place: Path | None = None) -> None:
        self.path = path
        self.place = place or path
        self._finished: list[Epoch] = []
        self._finished_until = 0  # bytes of the history

    @property
    def ids_path(self) -> Path:
        """The file of the encoded text, which need not exist."""
        return self.path / IDS

    def index_path(self, of: str) -> Path:
        """Return the file of an index of the text: of its records, or of all its passages."""
        return self.path / f"{of}.index"

    def write_config(self, toml: str) -> None:
        """Write the options of the training."""
        self._write(CONFIG, toml.encode())

    def write_corpus(self, identity: dict[str, Any]) -> None:
        """Write the data that identify the text."""
        self._write(CORPUS, json.dumps(identity).encode())

    def read_corpus(self) -> Any:
        """Return the data of ``write_corpus``, not validated; None if they cannot be read."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return json.loads((self.path / CORPUS).read_bytes())
        return None

    @property
    def history_path(self) -> Path:
        """The log of steps and epochs, in JSON lines, which need not exist."""
        return self.path / HISTORY

    @property
    def config_path(self) -> Path:
        """The file of the training's options."""
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
        """The file from which a training is resumed, which need not exist."""
        return self.path / RESUME

    def write_resume(self, checkpoint: Checkpoint) -> None:
        """Write the resume file; this commits everything that was written before it."""
        with self._writing():
            write_checkpoint(self.resume_path, checkpoint)

    def settle(self) -> None:
        """Do nothing: this folder has its final name already."""

    def append_history(self, line: dict[str, Any]) -> None:
        """Append one line to the history."""
        with self._writing():
            files.append_line(self.history_path, json.dumps(line, allow_nan=False))

    def sync_history(self) -> int:
        """Make the history survive a power failure; return its length in bytes."""
        with self._writing():
            self.history_path.touch()
            files.sync(self.history_path)
            return self.history_path.stat().st_size

    def cut_history(self, length: int) -> None:
        """Truncate the history to its first ``length`` bytes.

        Raises CharlstmError if it is shorter.
        """
        with self._writing():
            self.history_path.touch()
            size = self.history_path.stat().st_size
            if size < length:
                raise CharlstmError(
                    f"{self.history_path}: has {size:,} bytes, but resuming needs {length:,}",
                    "restore it, or start again with {overwrite}",
                )
            files.truncate(self.history_path, length)
        self._finished, self._finished_until = [], 0

    def history(self, start: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Return the complete lines of the history from byte ``start`` on, and where they end."""
        lines = list(read_lines(self.history_path, start))
        return [line for line, _ in lines], lines[-1][1] if lines else start

    def finished_epochs(self) -> list[Epoch]:
        """Return the finished epochs in the history; each call reads only the lines added since."""
        lines, self._finished_until = self.history(self._finished_until)
        self._finished += epochs(lines)
        return self._finished

    def write_picture(self, png: bytes) -> None:
        """Write the plot of the losses."""
        self._write(PICTURE, png)

    def remove_events(self) -> None:
        """Remove the TensorBoard event files."""
        with self._writing():
            for path in self.path.iterdir():
                if EVENTS.fullmatch(path.name):
                    path.unlink()

    def epochs(self) -> list[int]:
        """Return the epochs that have a weights file, in ascending order."""
        with read_errors(self.path):
            names = [EPOCH_FILE.fullmatch(path.name) for path in self.path.iterdir()]
        return sorted(int(name[1]) for name in names if name)

    def best_epoch(self) -> int:
        """Return the epoch with the lowest finite validation loss; among equals, the earliest.

        Without validation, it is the last epoch. Raises CharlstmError if there is no epoch.
        """
        kept = self._epochs_to_choose_from()
        chosen = best(e for e in self.finished_epochs() if e.epoch in kept)
        return kept[-1] if chosen is None else chosen

    def epochs_since_best(self) -> int:
        """Return the number of epochs since validation loss last improved."""
        judged = [e for e in self.finished_epochs() if e.valid_loss is not None]
        chosen = best(judged)
        return 0 if chosen is None else max(e.epoch for e in judged) - chosen

    def keep_newest(self, count: int) -> None:
        """Remove the weights files of all epochs but the best and the newest ``count``."""
        with self._writing():
            for epoch in self.epochs()[:-count]:
                if epoch != self.best_epoch():
                    self.epoch_path(epoch).unlink()

    def choose(self, epoch: str) -> Path:
        """Return the weights file of an epoch: ``best``, ``last`` or a number.

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
                f"{self.path}: has no epoch {chosen}", f"it has {', '.join(map(str, kept))}"
            )
        return self.epoch_path(chosen)

    def exists(self) -> bool:
        """Return whether there is a run to resume; raise CharlstmError if it cannot be read."""
        with read_errors(self.path):
            return self.path.is_dir() and (self.resume_path.exists() or bool(self.epochs()))

    def last_state(self) -> tuple[Checkpoint, str]:
        """Return the state to resume from, and the problem with the resume file or an empty string.

        If the resume file has a problem, the newest intact epoch file is used. Raises CharlstmError
        if no file is intact.
        """
        return self._last(read_checkpoint)

    def last_description(self) -> tuple[Description, str]:
        """Return the description of ``last_state``, without reading its arrays."""
        return self._last(read_description)

    def _last(self, read: Callable[[Path], Content]) -> tuple[Content, str]:
        try:
            return read(self.resume_path), ""
        except CharlstmError as error:
            problem = str(error)
        for epoch in reversed(self.epochs()):
            with contextlib.suppress(CharlstmError):
                return read(self.epoch_path(epoch)), problem
        raise CharlstmError(problem, "no epoch file is intact either; start again with {overwrite}")

    def history_until(self, epoch: int) -> int:
        """Return where the history entry of ``epoch``, or of one before it, ends, in bytes."""
        return end_of_epoch(self.history_path, epoch)

    def _has_steps_after_the_last_epoch(self) -> bool:
        """Return whether the resume file contains steps that no epoch file does."""
        with contextlib.suppress(OSError, CharlstmError):
            times = [self.epoch_path(e).stat().st_mtime_ns for e in self.epochs()[-1:]]
            if self.resume_path.stat().st_mtime_ns > max(times, default=0):
                position = read_description(self.resume_path).position
                return position is not None and position.get("step") != 0
        return False

    def _epochs_to_choose_from(self) -> list[int]:
        kept = self.epochs()
        if not kept:
            raise CharlstmError(f"{self.path}: has no finished epoch yet", "train at least one")
        return kept

    def _write(self, name: str, content: bytes) -> None:
        with self._writing():
            files.replace_file(self.path / name, content)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return write_errors(self.place, CHOOSE_ANOTHER)
