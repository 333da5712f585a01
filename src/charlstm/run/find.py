"""Which run or weights file is meant: of those that are named, or under ``checkpoints/``."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from charlstm.config import RUNS
from charlstm.errors import CharlstmError
from charlstm.files import named_reading
from charlstm.run.folder import RunFolder
from charlstm.run.weights import Checkpoint
from charlstm.run.weights_reader import read_checkpoint

HIDDEN = re.compile(r"\..*\.(part|old|tmp)")  # a run in the making, or one put aside


def find_weights(named: str | None, epoch: str | None = None) -> Path:
    """Return the weights file that is meant: of a run folder, a file, or the newest run.

    ``epoch`` is best, last or a number; None is the best. Raises CharlstmError if there is none.
    """
    if named is None:
        return newest_run().choose(epoch or "best")
    path = Path(named)
    if _is_folder(path):
        return RunFolder(path).choose(epoch or "best")
    if epoch:
        raise CharlstmError(
            f"{path}: one weights file, so no epoch can be chosen", "leave out {epoch}"
        )
    return path


def load_checkpoint(named: str | None, epoch: str | None = None) -> tuple[Path, Checkpoint]:
    """Read the weights file that ``find_weights`` returns, and return its path as well.

    A training that keeps few epochs can remove it between the two: then there is another.

    Raises CharlstmError if there is none, or it is not good.
    """
    while True:
        path = find_weights(named, epoch)
        try:
            return path, read_checkpoint(path)
        except CharlstmError:
            if path.exists() or path == find_weights(named, epoch):
                raise


def find_run(named: str | None) -> RunFolder | Path:
    """Return the run that is meant, finished or begun, or else a weights file.

    Raises CharlstmError if there is none.
    """
    if named is None:
        return newest_run(begun=True)
    path = Path(named)
    if not _is_folder(path):
        return path
    run = RunFolder(path)
    if not run.exists():
        raise CharlstmError(f"{path}: no run in it")
    return run


def newest_run(*, begun: bool = False) -> RunFolder:
    """Return the run under ``checkpoints/`` whose newest epoch file is youngest.

    With ``begun``, what a training needs to go on counts as well. Folders that cannot be read are
    passed over. Raises CharlstmError if no run there has such a file.
    """
    with named_reading(RUNS):
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
        what = "no run there" if begun else "no run with a finished epoch there"
        raise CharlstmError(
            f"{RUNS}/: {what}", "charlstm train makes one, or name a run folder or a weights file"
        )
    return youngest[max(youngest)]


def _is_folder(path: Path) -> bool:
    """Tell a run folder from a weights file.

    Raises CharlstmError if there is neither.
    """
    with named_reading(path):
        if not path.exists():
            raise CharlstmError(f"{path}: no such run or weights file")
        return path.is_dir()
