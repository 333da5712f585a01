"""Characters <-> ids. Knows no files."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError

FEWEST = 2  # characters of a vocabulary: a choice needs two
CODE_POINTS = 0x110000  # one more than the highest code point of Unicode


@dataclass(frozen=True)
class Vocabulary:
    """The distinct code points of a text, sorted: ``characters[i]`` has id ``i``."""

    characters: str

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def id_dtype(self) -> np.dtype[np.unsignedinteger]:
        """The narrowest unsigned integer that holds every id."""
        return np.dtype(np.min_scalar_type(len(self) - 1)).newbyteorder("<")

    @cached_property
    def table(self) -> NDArray[np.unsignedinteger]:
        """Ids by code point, shape (CODE_POINTS,); 0 for characters that have none."""
        table = np.zeros(CODE_POINTS, self.id_dtype)
        table[code_points(self.characters)] = np.arange(len(self))
        return table

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text, shape (N,).

        Raises CharlstmError for characters outside the vocabulary, naming each once.
        """
        known = set(self.characters)
        unknown = sorted(set(text) - known)
        if unknown:
            raise CharlstmError(
                f"the model has never seen {', '.join(map(describe, unknown))}: "
                "leave out what is not in its vocabulary"
            )
        return self.table[code_points(text)].astype(np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that has these ids."""
        return "".join(self.characters[i] for i in ids)


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text, shape (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def describe(character: str) -> str:
    r"""Show one character so that it can be recognised in a line of any terminal.

    Example: ``'é' (U+00E9)``; ``'\n' (U+000A)``; ``COMBINING ACUTE ACCENT (U+0301)``.
    """
    shown = repr(character)
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        shown = unicodedata.name(character, "a mark")
    return f"{shown} (U+{ord(character):04X})"
