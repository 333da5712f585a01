"""Whether an id file that was written before is that of a text."""

from pathlib import Path
from typing import Any

import numpy as np

from charlstm.text.collection import Input
from charlstm.text.digest import Digest
from charlstm.text.encoding import Corpus, counts_of
from charlstm.text.source import UTF8, Ids
from charlstm.text.vocabulary import FEWEST, UNKNOWN, Vocabulary


def reuse(
    text: Input,
    ids_path: Path,
    identity: Any,
    *,
    min_count: int | None = 1,
    known: Vocabulary | None = None,
) -> Corpus | None:
    """Return the corpus of an earlier encoding; None if it is damaged or not of this text.

    ``identity`` is the value of ``Corpus.identity``, read from an untrusted file. If the
    modification time differs or is unknown, the SHA-256 must match. ``min_count`` and ``known`` are
    as in ``encode``; with a ``min_count`` of None, it may have been encoded with any of them.
    """
    stamp = text.stamp()
    match identity:
        case {"size": int(size), "mtime_ns": int(), "sha256": str(sha256)} if size == stamp[0]:
            stored = stored_ids(ids_path, identity)
        case _:
            return None
    if not stored or not is_unchanged(text, identity):
        return None
    vocabulary, ids = stored
    counts, used = identity["counts"], identity.get("min_count", 1)
    if type(used) is not int:
        return None
    corpus = Corpus(vocabulary, tuple(counts), *stamp, sha256, ids, text.encoding, used, text.end)
    wanted = known or Vocabulary("")
    alike = min_count == used and _has_exactly(corpus, wanted)
    return corpus if alike or min_count is None else None


def stored_ids(ids_path: Path, identity: Any) -> tuple[Vocabulary, Ids] | None:
    """Return the vocabulary and the memory-mapped ids of a file, or None if they do not match.

    ``identity`` describes the expected ids.
    """
    stored = mapped_ids(ids_path, identity)
    if stored and counts_of(stored[1], len(stored[0])) == identity["counts"]:
        return stored
    return None


def mapped_ids(ids_path: Path, identity: Any) -> tuple[Vocabulary, Ids] | None:
    """Return what ``stored_ids`` does, without reading the ids: their number is as expected."""
    match identity:
        case {"vocabulary": str(characters), "counts": list(counts)} if (
            list(characters) == sorted(set(characters))
            and len(characters) >= FEWEST
            and all(type(count) is int for count in counts)
        ):
            has_unknown = identity.get("unknown") is True and UNKNOWN in characters
            vocabulary = Vocabulary(characters, has_unknown)
        case _:
            return None
    if not ids_path.is_file() or not ids_path.stat().st_size:
        return None
    ids: Ids = np.memmap(ids_path, np.uint8, mode="r")
    if len(ids) % vocabulary.id_dtype.itemsize:
        return None
    ids = ids.view(vocabulary.id_dtype)
    return (vocabulary, ids) if len(ids) == sum(counts) else None


def is_unchanged(text: Input, identity: Any) -> bool:
    """Return whether a text matches an identity, by size and time, or else by SHA-256.

    ``identity`` is as in ``reuse``.
    """
    match identity:
        case {"size": int(size), "mtime_ns": int(mtime)} if mtime and (size, mtime) == text.stamp():
            return _is_read_alike(text, identity)
    return has_same_text(text, identity)


def has_same_text(text: Input, identity: Any) -> bool:
    """Return whether a text matches an identity by its SHA-256; ``identity`` is as in ``reuse``."""
    match identity:
        case {"size": int(size), "sha256": str(sha256), "vocabulary": str()}:
            stamp = text.stamp()
            if stamp[0] != size or not _is_read_alike(text, identity):
                return False
            digest = Digest()
            text.reader(digest=digest.update).read()
            return digest.hexdigest() == sha256 and text.stamp() == stamp
    return False


def _is_read_alike(text: Input, identity: dict[str, Any]) -> bool:
    """Return whether the encoding and the end are those of the identity."""
    how = identity.get("encoding", UTF8), identity.get("end", "")
    return how == (text.encoding, text.end)


def _has_exactly(corpus: Corpus, known: Vocabulary) -> bool:
    """Return whether the vocabulary is that of the text plus ``known``."""
    vocabulary = corpus.vocabulary
    counted = zip(vocabulary.characters, corpus.counts, strict=True)
    present = {character for character, count in counted if count}
    unknown = {UNKNOWN} if vocabulary.has_unknown else set()
    return present | set(known.characters) | unknown == set(vocabulary.characters) and (
        known.has_unknown <= vocabulary.has_unknown
    )
