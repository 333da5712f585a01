"""What is true of a text at each of its characters, such as whether it is inside quotes.

Knows neither ids nor models.
"""

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError

Values = NDArray[np.float32]

TAB = 8  # columns
PAIRS = {"“": "”", "«": "»", "„": "“"}  # other quotes, by the one that opens them
MOST_LABELS = 20
RARE = 0.001  # share of the characters: a property that is true of fewer is left out


def properties(text: str) -> dict[str, Values]:
    """Return the value of each property after each character, (N,), by its name.

    Properties that hardly vary in this text are left out.
    """
    found = {
        "inside quotes": _inside_quotes(text),
        "inside parentheses": _depth(text, "()"),
        "inside brackets": np.maximum(_depth(text, "[]"), _depth(text, "{}")),
        "depth of indentation": _indentation(text),
        "position in the line": _since(text, lambda c: c == "\n"),
        "position in the word": _since(text, lambda c: not c.isalnum()),
        "in a word with a capital": _capital(text),
        "in a comment": _comment(text),
    }
    return {name: values for name, values in found.items() if _varies(values)}


def labels(text: str, marks: str) -> dict[str, Values]:
    """Return a property for each distinct character of ``marks``, which label those of a text.

    Raises CharlstmError if they are not as many as the text has characters, or too many different
    ones.
    """
    if len(marks) != len(text):
        raise CharlstmError(
            f"{len(marks):,} labels for {len(text):,} characters",
            "give one character for each of the text",
            option="labels",
        )
    distinct = sorted(set(marks))
    if not 1 < len(distinct) <= MOST_LABELS:
        raise CharlstmError(
            f"{len(distinct)} different labels; there can be 2 to {MOST_LABELS}", option="labels"
        )
    chosen = np.array(list(marks))
    return {f"label {mark!r}": (chosen == mark).astype(np.float32) for mark in distinct}


def _varies(values: Values) -> bool:
    return bool(np.mean(values != np.median(values)) > RARE)


def _inside_quotes(text: str) -> Values:
    """Return 1 inside quotes; an empty line ends them, so that a missing one inverts no more."""
    inside, closing, values = False, "", []
    for before, character in zip("\n" + text, text, strict=False):
        if inside:
            inside = character != closing and not before == character == "\n"
        elif character == '"' or character in PAIRS:
            inside, closing = True, PAIRS.get(character, character)
        values.append(inside)
    return np.array(values, np.float32)


def _depth(text: str, pair: str) -> Values:
    """Return 1 inside a pair of brackets, which an empty line ends."""
    depth, values = 0, []
    for before, character in zip("\n" + text, text, strict=False):
        depth += character == pair[0]
        depth -= character == pair[1] and depth > 0
        if before == character == "\n":
            depth = 0
        values.append(depth > 0)
    return np.array(values, np.float32)


def _indentation(text: str) -> Values:
    """Return the columns before the first character of the line that is no space."""
    values: list[int] = []
    for line in text.splitlines(keepends=True):
        space = line[: len(line) - len(line.lstrip(" \t"))]
        column = 0
        for character in space:
            column += TAB - column % TAB if character == "\t" else 1
            values.append(column)
        values += [column] * (len(line) - len(space))
    return np.array(values, np.float32)


def _since(text: str, ends: Callable[[str], bool]) -> Values:
    """Return the number of characters since the last one that ends a line, or a word."""
    count, values = 0, []
    for character in text:
        count = 0 if ends(character) else count + 1
        values.append(count)
    return np.array(values, np.float32)


def _capital(text: str) -> Values:
    """Return 1 within a word that begins with a capital letter."""
    parts = (("".join(group), is_word) for is_word, group in groupby(text, str.isalnum))
    flags = ([is_word and part[0].isupper()] * len(part) for part, is_word in parts)
    return np.array([flag for part in flags for flag in part], np.float32)


def _comment(text: str) -> Values:
    """Return 1 from # or // to the end of the line."""
    return np.array([*_comments(text)], np.float32)


def _comments(text: str) -> Iterator[bool]:
    inside = False
    for before, character in zip("\n" + text, text, strict=False):
        inside = character != "\n" and (inside or character == "#" or before == character == "/")
        yield inside
