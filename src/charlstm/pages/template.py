"""Fill the template of a page: an HTML, a CSS and a JavaScript file next to this module."""

import json
from importlib import resources
from string import Template
from typing import Any

FOLDER = resources.files("charlstm.pages")


def filled(name: str, data: Any, *, rules: str = "", **parts: str) -> str:
    """Return a page; ``data`` is for its JSON block, ``rules`` are more CSS, ``parts`` are HTML.

    The block has no ``<``, so that no ``</script>`` in it can end it.
    """
    block = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    files = {"style": file(f"{name}.css") + rules, "script": file(f"{name}.js")}
    return Template(file(f"{name}.html")).substitute(parts, data=block, **files)


def file(name: str) -> str:
    """Return the text of a file of this package."""
    return (FOLDER / name).read_text("utf-8")
