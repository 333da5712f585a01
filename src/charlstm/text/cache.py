"""A folder of id files that several runs share, so that a text is encoded once.

A file is named by the SHA-256 of the text, how it was read, and its vocabulary; beside it is what
identifies them.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from charlstm import files
from charlstm.text.collection import Input
from charlstm.text.encoding import Corpus, encode
from charlstm.text.reuse import reuse
from charlstm.text.source import Advance
from charlstm.text.vocabulary import Vocabulary


def shared_corpus(
    text: Input, cache: Path, link: Path, advance: Advance, **vocabulary: Any
) -> Corpus:
    """Return the corpus of a text, whose ids are in a cache; encode it if they are not.

    ``link`` becomes a symbolic link to the id file. ``vocabulary`` are the arguments of ``encode``
    that decide it.

    Raises CharlstmError for a text that cannot be trained on, and OSError.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for path in sorted(cache.glob("*.ids")):
        identity = None
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError):
            # Without the time, the SHA-256 must match: two texts may have the same size and time.
            identity = {**json.loads(path.with_suffix(".json").read_bytes()), "mtime_ns": 0}
        corpus = reuse(text, path, identity, **vocabulary)
        if corpus:
            link.symlink_to(path.absolute())
            return corpus

    def named(characters: Vocabulary, sha256: str) -> Path:
        what = f"{sha256} {characters!r} {text.encoding} {text.end!r}"
        content = what.encode("utf-8", "surrogatepass")
        return cache / f"{hashlib.sha256(content).hexdigest()}.ids"

    corpus = encode(text, named, advance, **vocabulary)
    path = named(corpus.vocabulary, corpus.sha256)
    files.replace_file(path.with_suffix(".json"), json.dumps(corpus.identity()).encode())
    link.symlink_to(path.absolute())
    return corpus
