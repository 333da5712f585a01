"""Which run or weights file is meant: of those that are named, or under ``checkpoints/``."""

from __future__ import annotations

from pathlib import Path

from charlstm.checkpoint import Checkpoint, read
from charlstm.config import RUNS
from charlstm.errors import CharlstmError
from charlstm.run_folder import PART, RunFolder


def find_weights(checkpoint: str | None, epoch: str, *, epoch_given: bool) -> Path:
    """Return the weights file that is meant: of a run folder, a file, or the newest run.

    Raises CharlstmError if there is none.
    """
    if checkpoint is None:
        return newest_run().choose(epoch)
    path = Path(checkpoint)
    if path.is_dir():
        return RunFolder(path).choose(epoch)
    if not path.exists():
        raise CharlstmError(f"{path}: no such run or weights file")
    if epoch_given:
        raise CharlstmError(f"{path}: one weights file, so --epoch does not apply; leave it out")
    return path


def read_weights(
    checkpoint: str | None, epoch: str, *, epoch_given: bool
) -> tuple[Path, Checkpoint]:
    """Read the weights file that ``find_weights`` finds, and return its path as well.

    A training that keeps few epochs can remove it between the two: then there is another.

    Raises CharlstmError if there is none, or it is not good.
    """
    while True:
        path = find_weights(checkpoint, epoch, epoch_given=epoch_given)
        try:
            return path, read(path)
        except CharlstmError:
            if path.exists() or path == find_weights(checkpoint, epoch, epoch_given=epoch_given):
                raise


def find_run(checkpoint: str | None) -> RunFolder | Path:
    """Return the run that is meant, finished or begun, or else a weights file.

    Raises CharlstmError if there is none.
    """
    if checkpoint is None:
        return newest_run(begun=True)
    path = Path(checkpoint)
    if not path.is_dir():
        return find_weights(checkpoint, "best", epoch_given=False)
    if not RunFolder(path).exists():
        raise CharlstmError(f"{path}: no run in it")
    return RunFolder(path)


def newest_run(*, begun: bool = False) -> RunFolder:
    """Return the run under ``checkpoints/`` whose newest epoch file is youngest.

    With ``begun``, what a training needs to go on counts as well. Raises CharlstmError if no run
    there has one.
    """
    youngest: dict[float, RunFolder] = {}
    for folder in RUNS.iterdir() if RUNS.is_dir() else ():
        if folder.is_dir() and not PART.fullmatch(folder.name):
            run = RunFolder(folder)
            files = [run.epoch_path(epoch) for epoch in run.epochs()[-1:]]
            files += [run.resume_path] if begun and run.resume_path.exists() else []
            youngest |= {path.stat().st_mtime_ns: run for path in files}
    if not youngest:
        raise CharlstmError(
            f"{RUNS}/: no run {'' if begun else 'with a finished epoch '}there; charlstm train "
            "makes one, or name a run folder or a weights file"
        )
    return youngest[max(youngest)]
