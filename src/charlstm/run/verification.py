"""Verify the files of a run: read each one, and check it against the others.

Neither loss.png nor TensorBoard's event files are checked: both are made from the history.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from charlstm.config import TRAIN_OPTIONS
from charlstm.errors import CharlstmError
from charlstm.files import read_errors
from charlstm.options import read_toml
from charlstm.run.folder import RunFolder
from charlstm.run.weights_reader import read_checkpoint, read_description
from charlstm.text.reuse import stored_ids


@dataclass(frozen=True)
class Verdict:
    """The result for one file: ``problem`` is empty if the file is intact."""

    name: str
    problem: str


def verify(place: RunFolder | Path) -> Iterator[Verdict]:
    """Read the files that a run is made of, or one weights file; yield a verdict on each."""
    if isinstance(place, Path):
        yield _verdict(place, partial(read_checkpoint, place))
        return
    run = place
    yield _verdict(run.config_path, partial(_read_config, run))
    yield _verdict(run.ids_path, partial(_read_ids, run))
    yield _verdict(run.history_path, partial(_read_history, run))
    paths = [run.epoch_path(epoch) for epoch in run.epochs()]
    for path in [*paths, run.resume_path]:
        yield _verdict(path, partial(read_checkpoint, path))


def _verdict(path: Path, read: Callable[[], object]) -> Verdict:
    try:
        read()
    except CharlstmError as error:
        return Verdict(path.name, str(error).removeprefix(f"{path}: "))
    return Verdict(path.name, "")


def _read_config(run: RunFolder) -> None:
    read_toml(run.config_path, str(run.config_path), TRAIN_OPTIONS, missing="")


def _read_ids(run: RunFolder) -> None:
    identity = run.read_corpus()
    if identity is None:
        raise CharlstmError("corpus.json cannot be read")
    with read_errors(run.ids_path):
        if not stored_ids(run.ids_path, identity):
            raise CharlstmError("does not match corpus.json")


def _read_history(run: RunFolder) -> None:
    needed = _history_bytes(run)  # read first: a running training extends the history meanwhile
    with read_errors(run.history_path):
        length = run.history_path.stat().st_size
    lines, _ = run.history()
    for number, line in enumerate(lines, 1):
        if not line:
            raise CharlstmError(f"line {number:,} is not a JSON object")
    if length < needed:
        raise CharlstmError(f"has {length:,} bytes, but the resume file needs {needed:,}")


def _history_bytes(run: RunFolder) -> int:
    """Return the length of the history, in bytes, when the state was saved; 0 if unknown."""
    try:
        position = read_description(run.resume_path).position or {}
    except CharlstmError:
        return 0
    needed = position.get("history_bytes", 0)
    return needed if isinstance(needed, int) else 0
