"""Make a text safe to show on a terminal, in a log or on a page."""

import unicodedata

PICTURES = {point: chr(0x2400 + point) for point in range(32)} | {0x7F: "\u2421"}
# Bidirectional controls, which reorder the characters of a line on display.
BIDI_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def visible(text: str) -> str:
    """Return a text with control pictures or escapes in place of control characters.

    Newlines and tabs stay. Control sequences in a text or a file name could set the terminal's
    title, overwrite the clipboard or clear the screen. HTML allows only a few control characters.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable():
        return character
    point = ord(character)
    if unicodedata.category(character) == "Cc" or point in BIDI_CONTROLS:
        return PICTURES.get(point) or character.encode("unicode_escape").decode("ascii")
    return character
