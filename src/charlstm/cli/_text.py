"""Typed text or a file -> ids for a model; sampled ids -> text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charlstm.cli._options import flag
from charlstm.cli._stdio import tell
from charlstm.cli._stream import Piece
from charlstm.errors import CharlstmError
from charlstm.options import is_utf8

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from numpy.typing import NDArray

    from charlstm.cli._sample_options import SampleConfig
    from charlstm.sampling import Drawn
    from charlstm.text.source import Text
    from charlstm.text.vocabulary import Vocabulary


def check_utf8(option: str, *texts: str) -> None:
    """Check that texts on the command line were valid UTF-8.

    Raises CharlstmError if one was not.
    """
    for text in texts:
        if not is_utf8(text):
            raise CharlstmError(
                "not UTF-8", "does the terminal use another encoding?", option=option
            )


def read_prime(config: SampleConfig, vocabulary: Vocabulary) -> NDArray[Any]:
    """Return the ids of the prime, or of the file if there is one; report skipped characters."""
    from charlstm.text.opening import open_once, text_in_memory

    if config.prime_file is None:
        text = text_in_memory(flag("prime"), config.prime)
    else:
        text = open_once(config.prime_file, config.encoding)
    return read_and_tell(text, vocabulary, config.unknown)


def read_and_tell(text: Text, vocabulary: Vocabulary, unknown: str) -> NDArray[Any]:
    """Return the ids of a text; report skipped characters."""
    from charlstm.text.reading import read_ids

    ids, note = read_ids(text, vocabulary, unknown)
    if note:
        tell(note)
    return ids


def decoded(drawn: Drawn, vocabulary: Vocabulary) -> list[Piece]:
    """Return the new characters of each text, with their surprisal."""
    return [
        (vocabulary.decode(ids), nats.tolist())
        for ids, nats in zip(drawn.ids, drawn.nats, strict=True)
    ]
