"""A page that shades a text by how much each character surprises the model. Knows no model.

One string of HTML that needs nothing else, made of the files beside this module. Of every character
there is one ``<i>``, shaded by its class; what hovering shows is in a block of JSON.
"""

from __future__ import annotations

import html
import json
import math
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from charlstm.text.display import visible
from charlstm.text.vocabulary import Vocabulary, describe

if TYPE_CHECKING:  # a page needs no TensorFlow
    from charlstm.scoring import Details

DARKEST = 8  # bits; the shades are 0 to 8
GUESSES = 5  # likeliest characters that hovering shows


def surprisal_page(vocabulary: Vocabulary, details: Details, title: str, summary: str) -> str:
    """Return the page of a text, with a title and a line about the whole text."""
    bits = details.nats / math.log(2)
    names = [f"s{shade}" for shade in range(DARKEST + 1)]
    rules = "".join(
        f".{name} {{ background: rgb(var(--heat) / {i * 0.08:.2f}); }}\n"
        for i, name in enumerate(names)
    )
    shades = bits.clip(0, DARKEST).astype(int)
    classes = ["first", *(names[shade] for shade in shades[1:])]
    return Template(_file("html")).substitute(
        title=html.escape(title),
        style=_file("css") + rules,
        summary=html.escape(summary),
        legend="".join(f'<i class="{name}"> {i} </i>' for i, name in enumerate(names)),
        text="".join(map(_element, vocabulary.decode(details.ids), classes)),
        data=_data(vocabulary, details),
        script=_file("js"),
    )


def _file(ending: str) -> str:
    return (resources.files("charlstm.pages") / f"surprisal.{ending}").read_text("utf-8")


def _data(vocabulary: Vocabulary, details: Details) -> str:
    """Return what hovering shows as JSON that no ``</script>`` or ``<!--`` can end.

    In whole ten-thousandths: that is half the size.
    """
    bits, probabilities = details.nats / math.log(2), details.probabilities.ravel()
    data = {
        "names": [describe(character) for character in vocabulary.characters],
        "ids": details.ids.tolist(),
        "bits": np.rint(bits * 10_000).astype(int).tolist(),
        "size": details.guesses.shape[1],
        "guesses": details.guesses.ravel().tolist(),
        "probabilities": np.rint(probabilities * 10_000).astype(int).tolist(),
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _element(character: str, name: str) -> str:
    if character == "\n":
        return f'<i class="{name} n">\n</i>'
    return f'<i class="{name}">{html.escape(visible(character))}</i>'
