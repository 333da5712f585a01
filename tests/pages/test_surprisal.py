"""The surprisal page, tested in a real browser."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, complaints
from conftest import STRANGE, Run
from oracle import Oracle

from charlstm.pages.surprisal import surprisal_page
from charlstm.scoring import MOST_DETAILED, Details
from charlstm.text.vocabulary import Vocabulary, describe

TIP = "document.getElementById('tip')"
TEXT = "document.getElementById('text')"


def test_the_tooltip_shows_the_probability_and_five_guesses(
    charlstm: Run, trained: Path, text: str, tmp_path: Path, chromium: Browser
) -> None:
    """They equal the oracle's; the first character has none. The file name is not UTF-8."""
    weights, part = trained / "epoch-002.weights.h5", text[:400]
    name = os.fsdecode(b"<some>\xff.txt")
    (tmp_path / name).write_text(part, "utf-8", newline="")
    done = charlstm("score", weights, name, "--html", "page.html")
    assert done.returncode == 0, done.stderr.decode()
    chromium.open(tmp_path / "page.html")
    assert chromium.value(f"{TEXT}.textContent") == part
    assert chromium.value("document.querySelector('h1').textContent") == "<some>\ufffd.txt"
    oracle = Oracle(weights)
    nats, logits = Oracle(weights).nats(part), oracle.logits(part)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for i in (1, part.index("\n"), part.index("时"), 399):
        chromium.point_at(f"{TEXT}.children[{i}]")
        assert chromium.value(f"getComputedStyle({TIP}).display") == "block"
        name, numbers, *guesses = chromium.value(f"{TIP}.innerText").splitlines()
        assert name == describe(part[i])
        found = re.fullmatch(r"([\d.e-]+) %, ([\d.]+) bits", numbers)
        assert found
        assert float(found[1]) == pytest.approx(100 * math.exp(-nats[i - 1]), abs=0.011)
        assert float(found[2]) == pytest.approx(nats[i - 1] / math.log(2), abs=0.011)
        best = np.argsort(-probabilities[i - 1])[:5]
        assert [guess.split("\t")[1] for guess in guesses] == [
            describe(oracle.characters[k]) for k in best
        ]
        shares = [float(guess.split(" %")[0]) for guess in guesses]
        assert shares == pytest.approx(100 * probabilities[i - 1][best], abs=0.011)
        shade = chromium.value(f"{TEXT}.children[{i}].className.match(/s(\\d)/)[1]")
        assert int(shade) == min(8, int(nats[i - 1] / math.log(2)))
    chromium.point_at(f"{TEXT}.children[0]")
    assert "not predicted" in chromium.value(f"{TIP}.innerText")
    assert complaints(chromium) == []


def contrast(colours: list[list[float]]) -> float:
    """Return the contrast ratio of two colours, 1 to 21, as defined in WCAG 2.1."""
    light = []
    for colour in colours:
        share = np.array(colour[:3]) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(light) / min(light)


@pytest.mark.parametrize("dark", [False, True])
def test_every_shade_is_readable(
    dark: bool,  # noqa: FBT001 - a parameter of pytest's
    chromium: Browser,
    tmp_path: Path,
) -> None:
    """Contrast is at least 4.5, the minimum of WCAG 2.1 for text, and falls with every shade.

    This holds in the text, for the mark at a line end and in the legend.
    """
    path = tmp_path / "page.html"
    path.write_text(made(Vocabulary("\nab"), "ab\n" * 9, np.arange(27) / 3), "utf-8")
    chromium.open(path)
    chromium.dark(dark=dark)

    def colour(element: str, kind: str) -> list[float]:
        shown = chromium.value(f"getComputedStyle({element}).{kind}")
        return [float(number) for number in re.findall(r"[\d.]+", shown)]

    paper = np.array(colour("document.body", "backgroundColor"))
    assert (paper.mean() < 128) == dark
    for place, part in (("#text .s{}:not(.n)", ""), ("#text .s{}.n", "::before"), ("p .s{}", "")):
        contrasts = []
        for shade in range(9):
            element = f"document.querySelector('{place.format(shade)}')"
            ink, over = colour(f"{element}, '{part}'", "color"), colour(element, "backgroundColor")
            alpha = over[3] if len(over) > 3 else 1
            behind = np.array(over[:3]) * alpha + paper[:3] * (1 - alpha)
            contrasts.append(contrast([ink, list(behind)]))
        assert min(contrasts) >= 4.5, place
        assert contrasts == sorted(contrasts, reverse=True)


def test_the_page_shows_any_text(tmp_path: Path, chromium: Browser) -> None:
    """Control characters, which HTML cannot contain, and bidi overrides have visible symbols."""
    vocabulary = Vocabulary(STRANGE + "\u202e!-/;ciprstl")
    text = "</script><!--" + STRANGE + "\u202e&lt;\r\n"
    path = tmp_path / "page.html"
    page = made(vocabulary, text, np.full(len(text), 3.0))
    assert all(f">{escaped}</i>" in page for escaped in ("&lt;", "&gt;", "&amp;", "&quot;"))
    assert "<" not in page.partition('id="data">')[2].partition("</script>")[0]
    path.write_text(page, "utf-8", newline="")
    chromium.open(path)
    pictures = {ord(c): chr(0x2400 + ord(c)) for c in "\0\r\x1b"}
    pictures |= {0x7F: "\u2421", 0x85: r"\x85", 0x202E: r"\u202e"}  # would reverse the line
    assert chromium.value(f"{TEXT}.textContent") == text.translate(pictures)
    assert chromium.value(f"{TEXT}.children.length") == len(text)
    assert complaints(chromium) == []


def test_each_line_has_its_own_direction(tmp_path: Path, chromium: Browser) -> None:
    path, text = tmp_path / "page.html", "ab.\nאבג.\nab."
    path.write_text(made(Vocabulary("\n.abאבג"), text, np.full(len(text), 3.0)), "utf-8")
    chromium.open(path)
    edges = chromium.columns(f"{TEXT}.children")
    assert edges[:3] == sorted(edges[:3]) == edges[9:]
    assert edges[4:8] == sorted(edges[4:8], reverse=True)
    assert edges[7] > edges[2]  # at the right edge


def test_the_longest_page_opens(tmp_path: Path, chromium: Browser) -> None:
    path = tmp_path / "page.html"
    text = "abcd " * (MOST_DETAILED // 5)
    path.write_text(made(Vocabulary(" abcd"), text, np.full(len(text), 3.0)), "utf-8")
    chromium.open(path)
    chromium.point_at(f"{TEXT}.children[{MOST_DETAILED - 1}]")
    assert chromium.value(f"{TIP}.innerText").startswith("' ' (U+0020)\n12.50 %, 3.00 bits")


def made(vocabulary: Vocabulary, text: str, bits: np.ndarray) -> str:
    """Return the page of a text, given the bits of each character."""
    ids, guesses = vocabulary.encode(text).astype(np.uint8), np.zeros((len(text), 1), np.int32)
    details = Details(ids, bits * math.log(2), guesses, guesses.astype(float))
    return surprisal_page(vocabulary, details, "a text", "made")
