"""Make a page that shades each character of a text by its surprisal. Knows no model.

The page is a self-contained HTML string, made from the template files next to this module. Each
character is an ``<i>`` element, and its class sets the shade. The data of the tooltips are in a
JSON block.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from charlstm.pages.template import filled
from charlstm.text.display import visible
from charlstm.text.vocabulary import Vocabulary, describe

if TYPE_CHECKING:  # a page does not need TensorFlow
    from charlstm.scoring import Details

DARKEST = 8  # bits: the darkest shade; there is one shade per bit, from 0
GUESSES = 5  # most likely characters in a tooltip


def surprisal_page(vocabulary: Vocabulary, details: Details, title: str, summary: str) -> str:
    """Return the HTML page of a text; ``summary`` is the line below the title."""
    bits = details.nats / math.log(2)
    names = [f"s{shade}" for shade in range(DARKEST + 1)]
    rules = "".join(
        f".{name} {{ background: rgb(var(--heat) / {i * 0.08:.2f}); }}\n"
        for i, name in enumerate(names)
    )
    shades = bits.clip(0, DARKEST).astype(int)
    classes = ["first", *(names[shade] for shade in shades[1:])]
    return filled(
        "surprisal",
        _data(vocabulary, details),
        rules=rules,
        title=html.escape(title),
        summary=html.escape(summary),
        legend="".join(f'<i class="{name}"> {i} </i>' for i, name in enumerate(names)),
        text="".join(map(_element, vocabulary.decode(details.ids), classes)),
    )


def _data(vocabulary: Vocabulary, details: Details) -> dict[str, Any]:
    """Return the tooltip data.

    Bits and probabilities are integers, in units of 1/10,000, which halves the size.
    """
    bits, probabilities = details.nats / math.log(2), details.probabilities.ravel()
    return {
        "names": [describe(character) for character in vocabulary.characters],
        "ids": details.ids.tolist(),
        "bits": np.rint(bits * 10_000).astype(int).tolist(),
        "size": details.guesses.shape[1],
        "guesses": details.guesses.ravel().tolist(),
        "probabilities": np.rint(probabilities * 10_000).astype(int).tolist(),
    }


def _element(character: str, name: str) -> str:
    if character == "\n":
        return f'<i class="{name} n">\n</i>'
    return f'<i class="{name}">{html.escape(visible(character))}</i>'
