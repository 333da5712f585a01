"""Characters <-> ids. Opens no files."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FEWEST = 2  # characters of a vocabulary: with one there is nothing to predict
BLOCK = 2**16  # code points that are looked up at a time
UNKNOWN = "\ufffd"  # the replacement character
CODE_POINTS = 0x110000  # one more than the highest code point of Unicode


@dataclass(frozen=True)
class Vocabulary:
    """The distinct code points of a text, sorted: ``characters[i]`` has id ``i``.

    With ``has_unknown``, the id of UNKNOWN stands for all characters that have no id of their own.
    """

    characters: str
    has_unknown: bool = False

    def __len__(self) -> int:
        return len(self.characters)

    @property
    def id_dtype(self) -> np.dtype[np.unsignedinteger]:
        """The narrowest unsigned integer that holds every id."""
        return np.dtype(np.min_scalar_type(len(self) - 1)).newbyteorder("<")

    @property
    def unknown(self) -> int | None:
        """The id of characters that have none of their own, if there is one."""
        return self.characters.index(UNKNOWN) if self.has_unknown else None

    @cached_property
    def table(self) -> NDArray[np.unsignedinteger]:
        """Ids by code point, shape (CODE_POINTS,); those of unknown characters are alike."""
        table = np.full(CODE_POINTS, self.unknown or 0, self.id_dtype)
        table[code_points(self.characters)] = np.arange(len(self))
        return table

    @cached_property
    def pair_table(self) -> NDArray[np.uint16]:
        """Pairs of ids by pairs of code points, a byte for each of the four, shape (65536,)."""
        ids = self.table[:256].astype(np.uint16)
        pairs: NDArray[np.uint16] = np.bitwise_or.outer(ids << 8, ids)
        return pairs.ravel()

    def ids(self, points: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Return the ids of code points, (N,), as ``table`` has them."""
        ids = np.empty(len(points), self.id_dtype)
        even = 0
        if points.itemsize == ids.itemsize == 1:  # to look up pairs takes half the time
            even = len(points) // 2 * 2
            _take(self.pair_table, points[:even].view(np.uint16), ids[:even].view(np.uint16))
        _take(self.table, points[even:], ids[even:])
        return ids

    def look_up(
        self, points: NDArray[np.unsignedinteger]
    ) -> tuple[NDArray[np.unsignedinteger], NDArray[np.bool_]]:
        """Return the ids of code points and whether each is in the vocabulary, both (N,)."""
        ids = self.ids(points)
        return ids, code_points(self.characters)[ids] == points

    def encode(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text, shape (N,); every character must be in the vocabulary."""
        ids, known = self.look_up(code_points(text))
        assert known.all()
        return ids.astype(np.int32)

    def opening(self) -> str:
        """Return the default prime: a newline, or else the first character."""
        return "\n" if "\n" in self.characters else self.characters[0]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of these ids."""
        return "".join(self.characters[i] for i in ids)


def _take(
    table: NDArray[np.unsignedinteger],
    indices: NDArray[np.unsignedinteger],
    values: NDArray[np.unsignedinteger],
) -> None:
    """Set ``values`` to those of the table at these indices."""
    for start in range(0, len(indices), BLOCK):  # since numpy makes 8 bytes of each index
        part = slice(start, start + BLOCK)
        table.take(indices[part], out=values[part], mode="clip")  # other modes copy ``out``


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text, shape (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def describe(character: str) -> str:
    r"""Return a description of one character that is readable on any terminal.

    Example: ``'é' (U+00E9)``; ``'\n' (U+000A)``; ``COMBINING ACUTE ACCENT (U+0301)``.
    """
    shown = repr(character)
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        shown = unicodedata.name(character, "a mark")
    return f"{shown} (U+{ord(character):04X})"
