"""A text as it can be shown: on a terminal, in a log, on a page."""

import unicodedata

PICTURES = {point: chr(0x2400 + point) for point in range(32)} | {0x7F: "\u2421"}
# What turns the direction of a line, which then is shown in another order.
TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def visible(text: str) -> str:
    """Return a text with pictures or escapes for all that a terminal or a page would obey.

    Newlines and tabs stay. A text, or the name of a file, can hold what sets a terminal's title,
    fills its clipboard, or erases it; and HTML cannot hold all control characters.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    point = ord(character)
    if unicodedata.category(character) == "Cc" or point in TURNING:
        return PICTURES.get(point) or character.encode("unicode_escape").decode("ascii")
    return character
