"""Several texts that are read as one: files, folders of files, and pipes.

Only one file is open at a time.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

import numpy as np

from charlstm import files
from charlstm.config import RUNS
from charlstm.errors import CharlstmError, literal
from charlstm.files import read_errors
from charlstm.text.opening import open_once, text_of
from charlstm.text.records import with_end
from charlstm.text.source import UTF8, Advance, CodePoints, Reader, Text, Update
from charlstm.text.vocabulary import code_points

GATHERED = 2**19  # characters


@dataclass(frozen=True)
class Source:
    """A text of a collection, which messages call ``name``: a file, or an open ``pipe``.

    ``found``: in a folder, not named by the user. ``spooled``: the file has the content of a pipe.
    Only ``byte_range`` of the file is read, if given.
    """

    name: str
    path: Path
    pipe: Text | None = None
    found: bool = False
    spooled: bool = False
    byte_range: range | None = None

    def stamp(self) -> tuple[int, int]:
        """Return the size in bytes and the modification time in nanoseconds, 0 for a pipe."""
        with read_errors(self.name):
            status = self.path.stat()
        return status.st_size, 0 if self.spooled else status.st_mtime_ns

    def open(self, encoding: str) -> Text:
        """Open the file; raise CharlstmError if that fails."""
        with read_errors(self.name):
            text = text_of(self.path.open("rb"), self.name, encoding)
        return replace(text, byte_range=self.byte_range) if self.byte_range is not None else text


@dataclass(frozen=True)
class Collection:
    """Texts that are read as one, in order, with ``join`` between them.

    ``end`` is added at the end, unless the text ends with it.
    """

    sources: tuple[Source, ...]
    join: str = ""
    encoding: str = UTF8
    end: str = ""

    @property
    def name(self) -> str:
        """The name of the first text, and how many follow."""
        more = len(self.sources) - 1
        return self.path + (f" and {more:,} more" if more else "")

    @property
    def path(self) -> str:
        """The path of the first text, which names the run."""
        return self.sources[0].name

    @property
    def has_pipes(self) -> bool:
        """Whether some texts can be read only once, until they are ``spooled``."""
        return any(source.pipe for source in self.sources)

    def stamp(self) -> tuple[int, int]:
        """Return the size in bytes, and a number that changes with the files, sizes and times.

        For a single file, that is its modification time in nanoseconds; it is 0 if there is a pipe.
        """
        stamps = [source.stamp() for source in self.sources]
        size = sum(size for size, _ in stamps)
        if len(stamps) == 1 or not all(time for _, time in stamps):
            return size, min(time for _, time in stamps)
        names = [os.fsencode(source.name) for source in self.sources]
        content = repr((self.join, names, stamps)).encode("utf-8", "surrogateescape")
        return size, int.from_bytes(hashlib.sha256(content).digest()[:7])

    def reader(
        self, advance: Advance | None = None, digest: Update | None = None
    ) -> "CollectionReader":
        """Return a new pass over all texts; the arguments are those of Reader."""
        return CollectionReader(self, advance, digest)

    @contextlib.contextmanager
    def spooled(self, folder: Path) -> Iterator["Collection"]:
        """Copy what the pipes give into temporary files; yield a collection that has no pipes.

        Raises OSError.
        """
        with contextlib.ExitStack() as stack:
            sources = []
            for source in self.sources:
                if source.pipe and source.pipe.file:
                    file = stack.enter_context(files.temporary(folder))
                    shutil.copyfileobj(source.pipe.file, file)
                    file.flush()
                    sources.append(Source(source.name, Path(file.name), spooled=True))
                else:
                    sources.append(source)
            yield replace(self, sources=tuple(sources))


@dataclass(frozen=True)
class CollectionReader:
    """One pass over the texts of a collection."""

    collection: Collection
    advance: Advance | None
    digest: Update | None

    def read(self) -> None:
        """Read all of the texts, for their digest alone."""
        for _, reader in self._readers():
            reader.read()

    def code_points(self) -> Iterator[CodePoints]:
        """Yield the code points in chunks of any length.

        Raises CharlstmError, with the name of a file, as ``Reader.code_points`` does.
        """
        yield from with_end(_gathered(self._joined()), code_points(self.collection.end))

    def _joined(self) -> Iterator[CodePoints]:
        joint: CodePoints = code_points(self.collection.join)
        if self.collection.join.isascii():  # as the chunks around it, so that they are gathered
            joint = joint.astype(np.uint8)
        for number, (source, reader) in enumerate(self._readers()):
            if number and len(joint):
                yield joint
            try:
                yield from reader.code_points()
            except CharlstmError as error:
                raise _with_exclusion(error, source) from None

    def _readers(self) -> Iterator[tuple[Source, Reader]]:
        """Yield the reader of each text, which is open meanwhile."""
        for number, source in enumerate(self.collection.sources):
            if number and self.digest:
                self.digest(self.collection.join.encode())
            text = source.open(self.collection.encoding)
            with contextlib.closing(text.file or text.stream):
                yield source, text.reader(self.advance, self.digest)


def _gathered(chunks: Iterator[CodePoints]) -> Iterator[CodePoints]:
    """Yield the chunks, small ones together: the work on each of thousands would take longer."""
    for _, alike in groupby(chunks, lambda chunk: chunk.dtype):
        some: list[CodePoints] = []
        count = 0
        for chunk in alike:
            some.append(chunk)
            count += len(chunk)
            if count >= GATHERED:
                yield np.concatenate(some) if len(some) > 1 else chunk
                some, count = [], 0
        if some:
            yield np.concatenate(some)


def _with_exclusion(error: CharlstmError, source: Source) -> CharlstmError:
    """Return an error whose hint says how to leave out a file that was found in a folder."""
    if not source.found:
        return error
    name = literal(shlex.quote(source.path.name))
    hints = [*filter(None, [error.hint]), f"leave it out with {{exclude}} {name}"]
    return CharlstmError(error.problem, ", or ".join(hints))


Input = Text | Collection  # what can be read again and again


def collect(
    paths: Sequence[str], *, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[Source, ...]:
    """Return the texts that paths stand for: a file, ``-`` or a pipe for one, a folder for many.

    Those of a folder are its files and those of the folders in it, sorted, without hidden ones, as
    chosen by the patterns ``include`` and ``exclude``. Raises CharlstmError if there are none.
    """
    if list(paths).count("-") > 1:
        raise CharlstmError("- is named twice, and standard input can be read once", "name it once")
    sources: list[Source] = []
    for path in paths:
        if not path:  # from an unset variable in a script; it would mean the working folder
            raise CharlstmError("the name of a text is empty")
        with read_errors(path):
            mode = os.fstat(0).st_mode if path == "-" else Path(path).stat().st_mode
        if path != "-" and stat.S_ISDIR(mode):
            with read_errors(path):
                sources += _found(Path(path), Path(path), include, exclude)
        elif path == "-" or not stat.S_ISREG(mode):
            sources.append(Source(path, Path(path), open_once(path)))
        else:
            sources.append(Source(path, Path(path)))
    if not sources:
        chosen = " that {include} and {exclude} leave" if include or exclude else ""
        raise CharlstmError(f"{' '.join(paths)}: no files", f"name a folder with files{chosen}")
    for option, patterns in (("include", include), ("exclude", exclude)):
        if patterns and not any(source.found for source in sources):
            raise CharlstmError("no text is a folder", "name one, or leave it out", option=option)
    return tuple(sources)


def _found(
    folder: Path, top: Path, include: Sequence[str], exclude: Sequence[str]
) -> Iterator[Source]:
    """Yield the files in a folder, sorted, without hidden ones and runs.

    Links to folders are not followed. Raises OSError.
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith(".") or entry.name == RUNS.name:
            continue
        path = Path(entry.path)
        names = (entry.name, str(path.relative_to(top))) if include or exclude else ()
        if any(fnmatchcase(name, pattern) for name in names for pattern in exclude):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _found(path, top, include, exclude)
        elif entry.is_file() and (
            not include or any(fnmatchcase(name, p) for name in names for p in include)
        ):
            yield Source(str(path), path, found=True)
