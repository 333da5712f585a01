"""Stream a text to standard output: stop texts and colours."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby

from charlstm.cli._stdio import write_raw, write_text
from charlstm.text.display import visible

Piece = tuple[str, Sequence[float]]  # characters, and the surprisal of each in nats

# (surprisal in bits, background in the 256-colour palette): the background of a character with a
# surprisal below this one, and not below the previous one.
SHADES = ((1, ""), (2, "230"), (4, "222"), (6, "215"), (8, "209"), (math.inf, "203"))


class Ending:
    """Ends a text before the stop text that is completed first.

    Characters that could still become a stop text are held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._text = ""
        self._nats: list[float] = []
        self.complete = False

    def take(self, text: str, nats: Sequence[float]) -> Piece:
        """Add sampled characters; return those that can no longer be part of a stop text."""
        if self.complete:
            return "", []
        self._text += text
        self._nats += nats
        ends = [(at + len(s), at) for s in self._stops if (at := self._text.find(s)) >= 0]
        if ends:
            self.complete = True
            _, at = min(ends)
            self._text = self._text[:at]
            return self.rest()
        suffixes = (self._text[-n:] for n in range(min(self._longest, len(self._text)), 0, -1))
        held = next((s for s in suffixes if any(stop.startswith(s) for stop in self._stops)), "")
        return self._release(len(self._text) - len(held))

    def rest(self) -> Piece:
        """Return the characters held back, once sampling has ended."""
        return self._release(len(self._text))

    def _release(self, count: int) -> Piece:
        released = self._text[:count], self._nats[:count]
        self._text, self._nats = self._text[count:], self._nats[count:]
        return released


def in_colour(*, wanted: bool) -> bool:
    """Tell whether to colour standard output: never in a pipe, or with NO_COLOR (no-color.org)."""
    allowed = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and allowed and sys.stdout.isatty()


def shaded(text: str, nats: Sequence[float]) -> str:
    """Return a text for a terminal, with each character shaded by its surprisal."""
    runs = groupby(zip(text, nats, strict=True), key=lambda drawn: _shade(*drawn))
    parts = []
    for shade, run in runs:
        characters = visible("".join(character for character, _ in run))
        # Black text is readable on these backgrounds, whatever the terminal's own colours.
        parts.append(f"\x1b[38;5;16;48;5;{shade}m{characters}\x1b[0m" if shade else characters)
    return "".join(parts)


def _shade(character: str, nats: float) -> str:
    if character in "\r\n":  # or the rest of the line would be shaded
        return ""
    return next(shade for below, shade in SHADES if nats / math.log(2) < below)


def stream(drawn: Iterable[Piece], ending: Ending, *, colour: bool) -> int:
    """Write a text as it is sampled, up to its end; return its number of characters."""
    count = 0
    for piece in drawn:
        count += _show(ending.take(*piece), colour=colour)
        if ending.complete:
            return count
    return count + _show(ending.rest(), colour=colour)


def _show(piece: Piece, *, colour: bool) -> int:
    text, nats = piece
    if colour:
        write_raw(shaded(text, nats))
    else:
        write_text(text)
    return len(text)


def end_line(*, colour: bool) -> None:
    """End the line on a terminal; reset the colour, which Ctrl+C may have left on."""
    write_raw("\x1b[0m\n" if colour else "\n")
