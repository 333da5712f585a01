"""Make a page that shows what the units of a model track in a text. Knows no model."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

import numpy as np

from charlstm.pages.template import filled
from charlstm.text.display import visible

if TYPE_CHECKING:  # a page does not need TensorFlow
    from numpy.typing import NDArray

    from charlstm.neurons import Neurons


def neurons_page(
    found: Neurons, chosen: list[int], shown: str, values: NDArray[np.float32], title: str
) -> str:
    """Return the HTML page of a text, whose beginning is ``shown``, with the states ``chosen``.

    ``values`` (characters, states) are theirs; each is shown relative to its largest one.
    """
    largest = np.abs(values).max(0, initial=1e-9)
    scaled = np.rint(127 * values / largest).astype(np.int8)
    data = {
        "properties": found.properties,
        "units": [str(found.units[state]) for state in chosen],
        "first": found.first[chosen].round(4).tolist(),
        "second": found.second[chosen].round(4).tolist(),
        "text": [visible(character) for character in shown],
        "values": base64.b64encode(np.ascontiguousarray(scaled.T).tobytes()).decode(),
    }
    summary = (
        "Each unit is coloured by its value: red above zero, blue below. r is the correlation with "
        "a property of the text, measured on its second half; units are ranked by the first."
    )
    return filled("neurons", data, title=html.escape(title), summary=html.escape(summary))
