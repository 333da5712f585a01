"""The default folder of a run, from the path of its text."""

import re
from itertools import chain, count
from pathlib import Path

from charlstm.config import RUNS

COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
PIPES = re.compile("/(dev|proc/self)/fd/")


def run_name(text: str) -> str:
    """Return the default name of the run of a text, from the text's path.

    It is NAME for ``NAME.txt``, ``NAME.txt.gz`` and the folder ``NAME``, and also for
    ``data/NAME/input.txt``, the layout of char-rnn.
    """
    path = Path(text)
    if text in {"-", "/dev/stdin"}:
        return "stdin"
    if PIPES.match(text):
        return "pipe"
    if path.suffix in COMPRESSED:
        path = path.with_suffix("")
    if path.stem == "input" and path.parent.name not in {"", ".."}:
        return path.parent.name
    name = path.name if path.is_dir() else path.stem
    return name or path.absolute().name or "text"


def free_folder(text: str) -> Path:
    """Return a free folder for the run of a text whose default folder is taken.

    The names suit texts such as ``data/NAME/input.txt``, or ``log.1`` and ``log.2``.
    """
    path, stem = Path(text), run_name(text)
    if path.stem == "input" and path.parent.name:
        path = path.parent
    above = path.absolute().parent.name
    names = [path.name, f"{above}-{stem}", f"{above}-{path.name}"]
    if path.stem == "input":
        names.insert(0, above)
    numbered = (f"{stem}-{number}" for number in count(2))
    return next(RUNS / n for n in chain(names, numbered) if n and not (RUNS / n).exists())
