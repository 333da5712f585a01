"""Find a run or a weights file, by the name that the user gives or under ``checkpoints/``."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from charlstm.config import RUNS
from charlstm.errors import CharlstmError
from charlstm.files import read_errors
from charlstm.run.folder import RunFolder
from charlstm.run.weights import Checkpoint
from charlstm.run.weights_reader import read_checkpoint

HIDDEN = re.compile(r"\..*\.(part|old|tmp)")  # an unfinished run, or one put aside


def find_weights(named: str | None, epoch: str | None = None) -> Path:
    """Return the weights file ``named``, or the file of ``epoch`` in the run folder ``named``.

    The default is the newest run. ``epoch`` is best, last or a number; None is best. Raises
    CharlstmError if there is no such file.
    """
    if named is None:
        return newest_run().choose(epoch or "best")
    path = Path(named)
    if _is_folder(path):
        return RunFolder(path).choose(epoch or "best")
    if epoch:
        raise CharlstmError(f"{path}: a weights file holds a single epoch", "leave out {epoch}")
    return path


def load_checkpoint(named: str | None, epoch: str | None = None) -> tuple[Path, Checkpoint]:
    """Read the weights file that ``find_weights`` returns; return its path and its contents.

    If a running training removes the file meanwhile, because of ``keep``, the search is repeated.

    Raises CharlstmError if there is none, or it cannot be read.
    """
    while True:
        path = find_weights(named, epoch)
        try:
            return path, read_checkpoint(path)
        except CharlstmError:
            if path.exists() or path == find_weights(named, epoch):
                raise


def find_run(named: str | None) -> RunFolder | Path:
    """Return the run or the path of the weights file ``named``; by default, the newest run.

    A run counts as soon as it has a resume file or an epoch file. Raises CharlstmError if there is
    none.
    """
    if named is None:
        return newest_run(begun=True)
    path = Path(named)
    if not _is_folder(path):
        return path
    run = RunFolder(path)
    if not run.exists():
        raise CharlstmError(f"{path}: contains no run")
    return run


def newest_run(*, begun: bool = False) -> RunFolder:
    """Return the run under ``checkpoints/`` whose last epoch file is the most recent.

    With ``begun``, resume files count as well. Unreadable folders are ignored. Raises
    CharlstmError if no run there has such a file.
    """
    with read_errors(RUNS):
        folders = list(RUNS.iterdir()) if RUNS.is_dir() else []
    youngest: dict[float, RunFolder] = {}
    for folder in folders:
        with contextlib.suppress(OSError, CharlstmError):
            if folder.is_dir() and not HIDDEN.fullmatch(folder.name):
                run = RunFolder(folder)
                files = [run.epoch_path(epoch) for epoch in run.epochs()[-1:]]
                files += [run.resume_path] if begun and run.resume_path.exists() else []
                youngest |= {path.stat().st_mtime_ns: run for path in files}
    if not youngest:
        what = "no run found" if begun else "no run with a finished epoch"
        raise CharlstmError(
            f"{RUNS}/: {what}", "run charlstm train first, or name a run folder or a weights file"
        )
    return youngest[max(youngest)]


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder, rather than a file.

    Raises CharlstmError if it does not exist.
    """
    with read_errors(path):
        if not path.exists():
            raise CharlstmError(f"{path}: no such run or weights file")
        return path.is_dir()
