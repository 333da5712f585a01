"""Whether all files of a run are whole: every one is read, and held against the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from charlstm.config import RECORDS
from charlstm.errors import CharlstmError
from charlstm.files import named_reading
from charlstm.options import read_toml
from charlstm.run.folder import RunFolder
from charlstm.run.weights_reader import read_checkpoint, read_description
from charlstm.text.encoding import stored_ids


@dataclass(frozen=True)
class Verdict:
    """What was found out about a file: ``problem`` is empty if it is whole."""

    name: str
    problem: str


def verify(place: RunFolder | Path) -> Iterator[Verdict]:
    """Read all of a run, or of a weights file, and yield a verdict on each file."""
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
    read_toml(run.config_path, str(run.config_path), RECORDS, missing="")


def _read_ids(run: RunFolder) -> None:
    identity = run.read_corpus()
    if identity is None:
        raise CharlstmError("corpus.json cannot be read")
    with named_reading(run.ids_path):
        if not stored_ids(run.ids_path, identity):
            raise CharlstmError("not what corpus.json describes")


def _read_history(run: RunFolder) -> None:
    needed = _history_bytes(run)  # first: a training that runs makes the history longer meanwhile
    with named_reading(run.history_path):
        length = run.history_path.stat().st_size
    lines, _ = run.history()
    for number, line in enumerate(lines, 1):
        if not line:
            raise CharlstmError(f"line {number:,} is no JSON object")
    if length < needed:
        raise CharlstmError(f"{length:,} bytes, where the resume file needs {needed:,}")


def _history_bytes(run: RunFolder) -> int:
    """Return how long the history was when the state was saved; 0 if nothing says so."""
    try:
        position = read_description(run.resume_path).position or {}
    except CharlstmError:
        return 0
    needed = position.get("history_bytes", 0)
    return needed if isinstance(needed, int) else 0
