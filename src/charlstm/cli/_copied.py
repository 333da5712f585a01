"""``charlstm sample --copied``: what of the sampled texts is in the training text."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli._stdio import tell
from charlstm.errors import CharlstmError
from charlstm.files import write_errors
from charlstm.text.display import visible

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from charlstm.text.passages import Copied, PassageIndex
    from charlstm.text.vocabulary import Vocabulary

MARK = "\x1b[7m"  # reverse video


def passage_index(path: Path, vocabulary: Vocabulary) -> PassageIndex:
    """Return the index of the text that a weights file was trained on; make it if there is none.

    Raises CharlstmError if the file is not in its run's folder, or that cannot be written to.
    """
    from charlstm.run.folder import RunFolder
    from charlstm.text.passages import PassageIndex, write_index
    from charlstm.text.reuse import mapped_ids

    run = RunFolder(path.parent)
    stored = mapped_ids(run.ids_path, run.read_corpus())
    if not stored or stored[0] != vocabulary:
        raise CharlstmError(
            f"{run.ids_path}: is not the text that {path} was trained on",
            "sample from the run's own folder",
            option="copied",
        )
    _, ids = stored
    file = run.index_path("passages")
    with write_errors(run.path):
        try:
            return PassageIndex(ids, file)
        except (FileNotFoundError, ValueError):
            tell(f"indexing {len(ids):,} characters")
            write_index(ids, file)
            return PassageIndex(ids, file)


def report(number: int, of: int, copied: Copied) -> None:
    """Say what is copied in a text, one of several."""
    from charlstm.text.passages import SHORTEST

    which = f"text {number}: " if of > 1 else ""
    said = f"no passage of {SHORTEST} or more characters"
    if copied.longest:
        said = (
            f"{copied.share:.1%} in passages of {SHORTEST} or more characters; the longest, of "
            f"{copied.longest.length:,}, is at character {copied.longest.place + 1:,} of the "
            "training text"
        )
    tell(f"copied:  {which}{said}")


def account(text: str, copied: Copied) -> dict[str, Any]:
    """Return what is copied in a text as a JSON object."""
    longest = None
    if copied.longest:
        start, length = copied.longest.start, copied.longest.length
        longest = {
            "text": text[start : start + length],
            "characters": length,
            "position": copied.longest.place + 1,
        }
    return {"share": copied.share, "longest": longest}


def marked(text: str, copied: Copied) -> str:
    """Return a text for a terminal, with what is copied in reverse video."""
    parts = []
    for is_copied, run in groupby(zip(copied.marks.tolist(), text, strict=True), lambda p: p[0]):
        characters = visible("".join(character for _, character in run))
        parts.append(f"{MARK}{characters}\x1b[0m" if is_copied else characters)
    return "".join(parts)
