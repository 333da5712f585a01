"""Make a page that writes text: a model and its step in JavaScript, in one file. Knows no model.

The weights are base64; everything that a browser could take for markup is escaped.
"""

import base64
import html
from typing import Any

from charlstm.pages.template import FOLDER, file, filled
from charlstm.text.vocabulary import describe


def writer_page(
    about: dict[str, Any], manifest: list[dict[str, Any]], weights: bytes, title: str, summary: str
) -> str:
    """Return the HTML page; ``about`` is the description of the model, with its ``vocabulary``.

    ``manifest`` has the name, type, shape and offset of each array in ``weights``. ``summary`` is
    the line at the end of the page.
    """
    names = [describe(character) for character in about["vocabulary"]]
    return filled(
        "writer",
        {"about": about, "manifest": manifest, "names": names},
        title=html.escape(title),
        about=html.escape(summary),
        weights=base64.b64encode(weights).decode(),
        wasm=base64.b64encode((FOLDER / "writer.wasm").read_bytes()).decode(),
        worker=file("writer.worker.js"),
    )
