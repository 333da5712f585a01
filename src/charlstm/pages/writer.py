"""Make a page that writes text: a model and its step in JavaScript, in one file. Knows no model.

The page is made from the template files next to this module. The weights are base64; everything
that a browser could take for markup is escaped.
"""

import base64
import html
import json
from importlib import resources
from string import Template
from typing import Any

from charlstm.text.vocabulary import describe

FOLDER = resources.files("charlstm.pages")


def writer_page(
    about: dict[str, Any], manifest: list[dict[str, Any]], weights: bytes, title: str, summary: str
) -> str:
    """Return the HTML page; ``about`` is the description of the model, with its ``vocabulary``.

    ``manifest`` has the name, type, shape and offset of each array in ``weights``. ``summary`` is
    the line at the end of the page.
    """
    names = [describe(character) for character in about["vocabulary"]]
    data = json.dumps({"about": about, "manifest": manifest, "names": names})
    return Template(_file("html")).substitute(
        title=html.escape(title),
        style=_file("css"),
        about=html.escape(summary),
        data=data.replace("<", "\\u003c"),  # so that no ``</script>`` can end the block
        weights=base64.b64encode(weights).decode(),
        wasm=base64.b64encode((FOLDER / "writer.wasm").read_bytes()).decode(),
        worker=_file("worker.js"),
        script=_file("js"),
    )


def _file(ending: str) -> str:
    return (FOLDER / f"writer.{ending}").read_text("utf-8")
