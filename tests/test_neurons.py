"""What single units track, compared with the oracle's states and with properties by hand."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, complaints
from conftest import Run, lines_of
from oracle import Oracle

from charlstm.architecture import ModelConfig, shapes
from charlstm.neurons import find_neurons, traces, units_of
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.properties import labels, properties
from charlstm.text.vocabulary import Vocabulary

CHARACTERS = '\n "#()abcABC'


def a_model(folder: Path, cell: str = "lstm") -> Path:
    """Return the file of a model with random weights, small enough that it forgets."""
    config = ModelConfig(units=6, layers=2, cell=cell)
    source = np.random.default_rng(2)
    weights = shapes(config, len(CHARACTERS)).map(
        lambda shape: source.normal(0, 0.5, shape).astype(np.float32)
    )
    vocabulary = Vocabulary("".join(sorted(CHARACTERS)))
    write_checkpoint(folder / "a.weights.h5", Checkpoint(1, config, vocabulary, weights))
    return folder / "a.weights.h5"


def a_text(count: int) -> str:
    chance = random.Random(3)
    words = ["ab", "Ca", '"bb', 'c"', "(a", "bc)", "# A", "\n", "\n\n", "    b"]
    return " ".join(chance.choices(words, k=count))[:count]


def oracle_states(path: Path, text: str) -> np.ndarray:
    """Return the states after each character, (N, S)."""
    oracle, found = Oracle(path), []
    each = 2 if oracle.about["model"]["cell"] == "lstm" else 1
    for character in text:
        oracle.step(oracle.characters.index(character))
        found.append(np.concatenate([part for layer in oracle.state for part in layer[:each]]))
    return np.array(found)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_states_are_those_of_the_oracle(cell: str, tmp_path: Path) -> None:
    path, text = a_model(tmp_path, cell), a_text(150)
    checkpoint = read_checkpoint(path)
    columns = [*range(len(units_of(checkpoint)))]
    found = traces(checkpoint, checkpoint.vocabulary.encode(text), columns)
    np.testing.assert_allclose(found, oracle_states(path, text), atol=1e-4)


def test_correlations_are_those_of_the_oracles_states(tmp_path: Path) -> None:
    """But for rounding, in bfloat16 where there is any, and for where the lanes begin."""
    path, text = a_model(tmp_path), a_text(8192)
    checkpoint, known = read_checkpoint(path), properties(text)
    found = find_neurons(checkpoint, checkpoint.vocabulary.encode(text), known)
    states = oracle_states(path, text)
    for half, r in ((slice(4096), found.first), (slice(4096, None), found.second)):
        for name, values in known.items():
            both = np.corrcoef(states[half].T, values[half])[-1, :-1]
            np.testing.assert_allclose(r[:, found.properties.index(name)], both, atol=0.03)
    assert found.properties == [
        *known,
        "likelihood of a space next",
        "likelihood of a line end next",
    ]
    best = found.best("position in the line", 3)
    column = np.abs(found.first[:, found.properties.index("position in the line")])
    assert column[best].tolist() == sorted(column, reverse=True)[:3]


def test_a_label_finds_the_unit_that_it_was_made_of_and_chance_finds_none(tmp_path: Path) -> None:
    path, text = a_model(tmp_path), a_text(8192)
    checkpoint, states = read_checkpoint(path), oracle_states(path, text)
    for state in (3, 11, 20):
        values = states[:, state]
        marks = "".join("01"[int(value > np.median(values))] for value in values)
        known = {"it": labels(text, marks)["label '1'"]}
        found = find_neurons(checkpoint, checkpoint.vocabulary.encode(text), known)
        assert found.best("it", 1) == [state]
        assert found.second[state, 0] > 0.6
    noise = "".join(random.Random(1).choices("01", k=len(text)))
    known = {"it": labels(text, noise)["label '1'"]}
    found = find_neurons(checkpoint, checkpoint.vocabulary.encode(text), known)
    assert abs(found.second[found.best("it", 1)[0], 0]) < 0.06


PROPERTIES = {
    "inside quotes": ('a "b" c "d\n\ne "f"', "00110000111000110"),
    "inside parentheses": ("a(b(c)d)e)(f\n\n(g", "0111111000111011"[:16]),
    "depth of indentation": ("  ab\nc\n\td", "122220088"),
    "position in the line": ("abc\nde\n\nf", "123012001"),
    "position in the word": ("ab, c", "12001"),
    "in a word with a capital": ("Ab cD E", "1100001"),
    "in a comment": ("a # b\nc // d\ne / f", "001110000111000000"),
}


def expected(name: str) -> list[int]:
    depth, values = 0, []
    text, marks = PROPERTIES[name]
    if name != "inside parentheses":
        return [int(mark) for mark in marks]
    for before, character in zip("\n" + text, text, strict=False):
        depth = max(0, depth + (character == "(") - (character == ")"))
        depth = 0 if before == character == "\n" else depth
        values.append(int(depth > 0))
    return values


@pytest.mark.parametrize("name", PROPERTIES)
def test_properties_are_what_they_are_called(name: str) -> None:
    text, _ = PROPERTIES[name]
    assert properties(text)[name].tolist() == expected(name)


def test_the_command_writes_a_table_a_page_and_the_states(
    charlstm: Run, tmp_path: Path, chromium: Browser
) -> None:
    path = a_model(tmp_path)
    (tmp_path / "text.txt").write_text(a_text(4096))
    (tmp_path / "marks.txt").write_text("xy" * 2048 + "\n")
    command = ["neurons", path, "text.txt", "--html", "page.html", "--labels", "marks.txt"]
    done = charlstm(*command, "--npz", "states.npz", "--layer", "2")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode().splitlines()
    assert printed[0] == "inside quotes"
    assert "label 'x'" in printed
    assert len(printed) == 6 * sum(not line.startswith(" ") for line in printed)
    with np.load(tmp_path / "states.npz") as file:
        assert sorted(file) == ["c_2", "h_2", "ids"]
        states = oracle_states(path, a_text(4096))
        np.testing.assert_allclose(file["h_2"], states[:, 12:18], atol=1e-4)
        np.testing.assert_allclose(file["c_2"], states[:, 18:], atol=1e-4)
    record = json.loads(charlstm(*command[:3], "--json").stdout)
    assert record[0]["property"] == "inside quotes"
    chromium.open(tmp_path / "page.html")
    assert complaints(chromium) == []
    assert chromium.value("document.querySelectorAll('#text i').length") == 4096
    chromium.value("document.querySelectorAll('#table th button')[2].click()")
    shown = chromium.value("$('said').textContent")
    assert record[2]["property"] in shown
    best = record[2]["units"][0]
    assert shown.startswith(f"layer {best['layer']}, {best['state']} {best['unit']} and")
    assert f"r = {best['correlation']:.3f}" in shown


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--labels", "short.txt"], "--labels: 5 labels for 4,096 characters"),
        (["--npz", "a.npz", "--layer", "3"], "--layer: the model has layers 1 to 2"),
        (["--layer", "1"], "--layer is about --npz"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    charlstm: Run, tmp_path: Path, options: list[str], problem: str
) -> None:
    path = a_model(tmp_path)
    (tmp_path / "text.txt").write_text(a_text(4096))
    (tmp_path / "short.txt").write_text("ababa")
    done = charlstm("neurons", path, "text.txt", *options)
    assert done.returncode in (1, 2)
    assert problem in lines_of(done.stderr)[-1]
    assert not (tmp_path / "a.npz").exists()
    done = charlstm("neurons", path, "short.txt")
    assert "short.txt: 5 characters are too few" in lines_of(done.stderr)[-1]
