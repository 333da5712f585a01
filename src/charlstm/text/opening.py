"""Open texts: files, pipes, standard input; also the demo text, and strings."""

import codecs
import io
import os
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from charlstm.errors import CharlstmError
from charlstm.text.compression import decompressed
from charlstm.text.source import UTF8, Text

PIPE_SECONDS = 5.0  # to wait for the writer of a named pipe


def codec(encoding: str) -> str:
    """Return Python's name of a text encoding.

    Raises CharlstmError if there is none.
    """
    with suppress(LookupError, ValueError):
        "a".encode(encoding)  # fails for codecs that are no text encodings
        found = codecs.lookup(encoding)
        if found.incrementaldecoder:
            return found.name
    raise CharlstmError(
        f"{encoding!r} is not an encoding that Python knows",
        "use utf-8, latin-1, gb18030 or another of its names",
        option="encoding",
    )


def open_once(path: str, encoding: str = UTF8) -> Text:
    """Open a text to be read once: any file, or standard input for ``-``.

    Raises CharlstmError if it cannot be opened, is a pipe that nothing writes to, or if there is no
    such encoding.
    """
    encoding = codec(encoding)
    try:
        file = os.fdopen(0, "rb", closefd=False) if path == "-" else _open(Path(path))
    except IsADirectoryError:
        raise CharlstmError(f"{path}: is a directory", "name a text file in it") from None
    except OSError as error:
        raise CharlstmError(f"{path}: {error.strerror}") from None
    return text_of(file, path, encoding)


def text_of(file: BinaryIO, name: str, encoding: str) -> Text:
    """Return the text in an open file, which may be compressed.

    Raises CharlstmError if the file cannot be read.
    """
    return Text(name, decompressed(file, name), encoding, file)


def _open(path: Path) -> BinaryIO:
    """Open a file, or a named pipe that has a writer, or gets one soon.

    Raises CharlstmError for a pipe that nothing writes to, and OSError.
    """
    if not path.is_fifo():
        return path.open("rb")
    opened: Future[BinaryIO] = Future()

    def wait_for_writer() -> None:
        try:
            opened.set_result(path.open("rb"))
        except OSError as error:
            opened.set_exception(error)

    Thread(target=wait_for_writer, daemon=True).start()
    try:
        return opened.result(PIPE_SECONDS)
    except TimeoutError:
        raise CharlstmError(f"{path}: a pipe that nothing writes to") from None


def demo_text(end: str = "") -> Text:
    """Return a text that comes with Python: the topics of its ``help()``, sorted by name.

    ``end`` ends each record, if it should consist of records.
    """
    from pydoc_data.topics import topics

    text = "\n".join(topics[name] for name in sorted(topics))
    return Text("demo", io.BytesIO(text.encode()), end=end)


def text_in_memory(name: str, content: str) -> Text:
    """Return a text from a string.

    Reading drops one leading byte order mark, so one is added: a mark in ``content`` is kept.
    """
    return Text(name, io.BytesIO(content.encode("utf-8-sig")))
