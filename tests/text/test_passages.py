"""Passages in common, compared with a search by brute force."""

import random
from pathlib import Path

import numpy as np
import pytest

from charlstm.text import passages
from charlstm.text.passages import SHORTEST, Passage, PassageIndex, write_index


def ids_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def by_brute_force(text: str, long: str) -> tuple[int, list[bool]]:
    """Return the length of the longest passage in common, and which characters are in long ones."""
    marks, longest, stop = [False] * len(text), 0, 0
    for start in range(len(text)):
        stop = max(start, stop)  # a part of a passage in common is one
        while stop < len(text) and text[start : stop + 1] in long:
            stop += 1
        longest = max(longest, stop - start)
        if stop - start >= SHORTEST:
            marks[start:stop] = [True] * (stop - start)
    return longest, marks


def mixture(long: str, seed: int) -> str:
    """Return random passages of a text, of random lengths, between random characters."""
    chance, parts = random.Random(seed), []
    for _ in range(12):
        start, length = chance.randrange(len(long)), chance.randrange(45)
        parts += [long[start : start + length], "".join(chance.choices("abcd", k=3))]
    return "".join(parts)


@pytest.mark.parametrize("alphabet", ["ab", "abcdefgh", "a"])
@pytest.mark.parametrize("at_once", [7, 64, 2**19])
def test_passages_are_those_that_brute_force_finds(
    alphabet: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "AT_ONCE", at_once)
    long = "".join(random.Random(at_once).choices(alphabet, k=100 if alphabet == "a" else 1000))
    write_index(ids_of(long), tmp_path / "index")
    index = PassageIndex(ids_of(long), tmp_path / "index")
    found_some = 0
    for text in (
        *(mixture(long, seed) for seed in range(20)),
        long,
        long[:25],
        long[-20:],
        "",
        "x",
    ):
        found = index.copied(ids_of(text).astype(np.int32))
        longest, marks = by_brute_force(text, long)
        assert found.marks.tolist() == marks
        assert found.share == pytest.approx(sum(marks) / max(1, len(text)))
        if longest < SHORTEST:
            assert found.longest is None
            continue
        found_some += 1
        assert found.longest
        length, start, place = found.longest.length, found.longest.start, found.longest.place
        assert length == longest
        assert text[start : start + length] == long[place : place + length]
    assert found_some > 8


def test_every_place_of_a_passage_is_found(tmp_path: Path) -> None:
    """However it lies between the places of the index, and at both ends of the text."""
    long = "".join(map(chr, random.Random(4).choices(range(32, 127), k=400)))
    write_index(ids_of(long), tmp_path / "index")
    index = PassageIndex(ids_of(long), tmp_path / "index")
    for place in range(len(long) - SHORTEST + 1):
        text = ids_of("\n" + long[place : place + SHORTEST] + "\n").astype(np.int32)
        assert index.copied(text).longest == Passage(SHORTEST, 1, place)
        assert index.copied(text[2:-1]).longest is None


def test_the_index_of_another_text_is_refused(tmp_path: Path) -> None:
    for length in (0, 9, 10, 20, 21, 500):
        write_index(ids_of("a" * length), tmp_path / "index")
        PassageIndex(ids_of("b" * length), tmp_path / "index")
        with pytest.raises(ValueError, match="index"):
            PassageIndex(ids_of("a" * (length + 20)), tmp_path / "index")
