"""A page that shades a text by how much each character surprises the model. Knows no model.

One string of HTML that needs nothing else. Of every character there is one ``<i>``, shaded by its
class; what hovering shows is in a block of JSON.
"""

from __future__ import annotations

import html
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from charlstm.corpus import Ids
from charlstm.vocabulary import Vocabulary, describe

if TYPE_CHECKING:  # a page needs no TensorFlow
    from charlstm.evaluation import Prediction

MOST_CHARACTERS = 200_000  # beyond, browsers become slow
DARKEST = 8  # bits; the shades are 0 to 8
GUESSES = 5

STYLE = """
:root { color-scheme: light dark; --paper: #fdfcfa; --ink: #222; --faint: #6b6b6b;
  --line: #d8d4cc; --heat: 226 74 32; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e4e2de; --faint: #9a9a9a; --line: #3a3d42; --heat: 222 78 40; }
}
body { background: var(--paper); color: var(--ink); margin: 0 auto; padding: 1.5rem;
  max-width: 60rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.2rem; margin: 0; overflow-wrap: anywhere; }
p { color: var(--faint); margin: .3rem 0 1rem; }
#text { white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4;
  font: .95rem/1.6 ui-monospace, monospace; }
i { font-style: normal; color: var(--ink); }
i:hover { outline: 1px solid var(--ink); }
.n::before { content: "\\21b5"; }
.first { color: var(--faint); }
#tip { position: fixed; display: none; background: var(--paper); border: 1px solid var(--line);
  border-radius: .4rem; padding: .5rem .7rem; box-shadow: 0 2px 10px rgb(0 0 0 / .25);
  pointer-events: none; font-size: .85rem; }
#tip table { border-spacing: .6rem 0; margin: .3rem -.6rem 0; }
#tip td:first-child { text-align: right; font-variant-numeric: tabular-nums; }
#tip .hit { font-weight: bold; }
"""

SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const text = document.getElementById("text"), tip = document.getElementById("tip");
const places = new Map([...text.children].map((element, i) => [element, i]));
const percent = (share) => (100 * share)[share < 1e-4 ? "toPrecision" : "toFixed"](2) + " %";
function line(parent, tag, content, name) {
  const element = document.createElement(tag);
  element.textContent = content;
  if (name) element.className = name;
  return parent.appendChild(element);
}
function fill(i) {
  const bits = data.bits[i] / 10000, size = data.size, first = i * size;
  tip.replaceChildren();
  line(tip, "div", data.names[data.ids[i]]);
  if (!i) return line(tip, "div", "the first character is not predicted");
  line(tip, "div", percent(2 ** -bits) + ", " + bits.toFixed(2) + " bits");
  const table = line(tip, "table", "");
  for (let k = first; k < first + size; k++) {
    const row = line(table, "tr", "", data.guesses[k] === data.ids[i] ? "hit" : "");
    line(row, "td", percent(data.chances[k] / 10000));
    line(row, "td", data.names[data.guesses[k]]);
  }
}
text.addEventListener("pointerover", (event) => {
  const i = places.get(event.target);
  if (i === undefined) return;
  fill(i);
  tip.style.display = "block";
  const box = event.target.getBoundingClientRect(), edge = document.documentElement;
  const below = box.bottom + 8 + tip.offsetHeight < edge.clientHeight;
  tip.style.top = (below ? box.bottom + 8 : Math.max(0, box.top - 8 - tip.offsetHeight)) + "px";
  tip.style.left = Math.max(0, Math.min(box.left, edge.clientWidth - tip.offsetWidth - 8)) + "px";
});
text.addEventListener("pointerleave", () => { tip.style.display = "none"; });
"""


class Page:
    """The page of one text as its N ids come to be predicted; ``guesses`` are shown of each."""

    def __init__(self, vocabulary: Vocabulary, ids: Ids, guesses: int) -> None:
        self._vocabulary = vocabulary
        self._ids = ids
        self._bits = np.zeros(len(ids))
        self._guesses = np.zeros((len(ids), guesses), np.int32)
        self._chances = np.zeros((len(ids), guesses))

    def add(self, prediction: Prediction) -> None:
        """Take over what was predicted in one window."""
        for row, first, count in prediction.spans:
            place = slice(first, first + count)
            self._bits[place] = prediction.nats[row, :count] / math.log(2)
            self._guesses[place] = prediction.guesses[row, :count]
            self._chances[place] = prediction.chances[row, :count]

    def html(self, title: str, summary: str) -> str:
        """Return the page, with a title and a line about the whole text."""
        names = [f"s{shade}" for shade in range(DARKEST + 1)]
        rules = "".join(
            f".{name} {{ background: rgb(var(--heat) / {i * 0.08:.2f}); }}\n"
            for i, name in enumerate(names)
        )
        steps = "".join(f'<i class="{name}"> {i} </i>' for i, name in enumerate(names))
        shades = self._bits.clip(0, DARKEST).astype(int)
        classes = ["first", *(names[shade] for shade in shades[1:])]
        text = "".join(map(_element, self._vocabulary.decode(self._ids), classes))
        return f"""<!DOCTYPE html>
<html lang="und">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>{STYLE}{rules}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(summary)}; bits of a character: {steps} and more</p>
<div id="text">{text}</div>
<div id="tip" role="tooltip"></div>
<script type="application/json" id="data">{self._data()}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""

    def _data(self) -> str:
        """Return what hovering shows as JSON that no ``</script>`` or ``<!--`` can end.

        In whole ten-thousandths: that is half the size.
        """
        data = {
            "names": [describe(character) for character in self._vocabulary.characters],
            "ids": self._ids.tolist(),
            "bits": np.rint(self._bits * 10_000).astype(int).tolist(),
            "size": self._guesses.shape[1],
            "guesses": self._guesses.ravel().tolist(),
            "chances": np.rint(self._chances * 10_000).astype(int).ravel().tolist(),
        }
        return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _element(character: str, name: str) -> str:
    if character == "\n":
        return f'<i class="{name} n">\n</i>'
    if (character < " " and character != "\t") or character == "\x7f":
        # HTML cannot hold all of these; Unicode has pictures of them.
        character = "\u2421" if character == "\x7f" else chr(0x2400 + ord(character))
    return f'<i class="{name}">{html.escape(character)}</i>'
