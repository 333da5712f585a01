"""Records in ids: where they are, the windows over them, and their fingerprints."""

import random
from pathlib import Path

import numpy as np
import pytest

from charlstm.text import fingerprints as prints
from charlstm.text.records import Records, find_records
from charlstm.text.windows import RecordWindows

ALPHABET = "/abcdefghijklmnopqrstuvwxyz"


def ids_of(text: str) -> np.ndarray:
    return np.array([ALPHABET.index(c) for c in text], np.uint8)


def text_of(ids: np.ndarray) -> str:
    return "".join(ALPHABET[i] for i in ids.ravel())


def pieces(records: Records) -> list[str]:
    spans = zip(records.starts, records.ends, strict=True)
    return [text_of(records.ids[start:end]) for start, end in spans]


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("ab/cde/f/", "/", ["ab/", "cde/", "f/"]),
        ("/ab///cde/", "/", ["ab/", "cde/"]),  # empty records
        ("ab/cde", "/", ["ab/"]),
        ("abc", "/", []),
        ("a//b/c//", "//", ["a//", "b/c//"]),
        ("a///b////c//", "//", ["a//", "/b//", "c//"]),  # overlapping: the first counts
        ("xaba" * 2, "aba", ["xaba", "xaba"]),
        ("xababab", "aba", ["xaba"]),
    ],
)
def test_a_text_is_split_as_by_str_split(
    text: str, separator: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [r.removesuffix(separator) for r in expected] == [
        r for r in text.split(separator)[:-1] if r
    ]
    for chunk in (1, 2, 3, 1000):
        monkeypatch.setattr("charlstm.text.records.CHUNK_BYTES", chunk)
        assert pieces(find_records(ids_of(text), ids_of(separator))) == expected


def test_the_records_of_two_parts_are_those_of_the_whole() -> None:
    records = find_records(ids_of("ab//cde/f/gh/"), ids_of("/"))
    for count in (1, 2, 3, 4):
        first, second = records.split(count)
        assert pieces(first) + pieces(second) == pieces(records)
        assert text_of(first.ids) + text_of(second.ids) == "ab//cde/f/gh/"


def windows_over(words: list[str], batch: int, length: int, epoch: int = 1) -> RecordWindows:
    records = find_records(ids_of("".join(f"{word}/" for word in words)), ids_of("/"))
    return RecordWindows(records.ids, batch, length, records, seed=3).of_epoch(epoch)


WORDS = ["".join(random.Random(n).choices(ALPHABET[1:], k=1 + n % 9)) for n in range(200)]


def test_an_epoch_has_every_record_once_and_the_next_one_another_order() -> None:
    orders = []
    for epoch in (1, 2):
        windows = windows_over(WORDS, 1, 5, epoch)
        assert windows.unused < 5
        steps = [windows.window(step) for step in range(windows.steps)]
        inputs, targets = (
            text_of(np.concatenate([step[0, part, 0] for step in steps]))
            for part in (slice(None, -1), slice(1, None))
        )
        assert inputs[0] == "/"
        assert inputs[1:] == targets[:-1]
        order = targets.split("/")[:-1]
        assert len(order) >= len(WORDS) - 5
        assert not set(order) - set(WORDS)
        resets = np.concatenate([step[0, :-1, 1] for step in steps])
        assert resets.tolist() == [int(c == "/") for c in inputs]
        orders.append(order)
        again = windows_over(WORDS, 1, 5, epoch)
        assert np.array_equal(again.window(7), windows.window(7))
    assert sorted(orders[0]) != orders[0]
    assert orders[0] != orders[1]


def test_row_continues_in_the_next_step_and_lanes_follow_one_another() -> None:
    windows = windows_over(WORDS, 3, 7)
    for step in range(windows.steps - 1):
        assert np.array_equal(windows.window(step)[:, -1], windows.window(step + 1)[:, 0])
    alone = windows_over(WORDS, 1, 7)
    first = [text_of(windows.window(step)[0, :-1, 0]) for step in range(windows.steps)]
    assert first == [text_of(alone.window(step)[0, :-1, 0]) for step in range(windows.steps)]
    assert np.array_equal(windows.window(windows.steps - 1)[0, -1], windows.window(0)[1, 0])


def test_an_index_knows_its_records_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prints, "AT_ONCE", 50)
    records = find_records(ids_of("".join(f"{word}/" for word in WORDS)), ids_of("/"))
    prints.write_index(records, tmp_path / "index")
    index = prints.read_index(tmp_path / "index")
    assert len(index) == len(set(WORDS))
    others = [*WORDS[50:60], "zz", "zzz", WORDS[8][::-1], WORDS[8] + "a", WORDS[8][:-1]]
    asked = find_records(ids_of("".join(f"{word}/" for word in others)), ids_of("/"))
    found = prints.are_in(index, prints.fingerprints(asked))
    assert found.tolist() == [word in WORDS for word in others]
    assert found.tolist()[:12] == [True] * 10 + [False] * 2


def test_an_empty_record_has_a_fingerprint() -> None:
    """A model can draw one; it is in no text."""
    for text in ("/", "ab//", "//ab/"):
        ids = ids_of(text)
        ends = np.flatnonzero(ids == 0) + 1
        starts = np.concatenate([[0], ends[:-1]])
        found = prints.fingerprints(Records(ids, ids_of("/"), starts, ends))
        empty = ends - starts == 1
        assert len(set(found[empty].tolist())) == 1
        assert not set(found[empty].tolist()) & set(found[~empty].tolist())


def test_fingerprints_depend_on_the_record_alone() -> None:
    """Not on its place, nor on what is beside it; and there are no accidental ones."""
    words = sorted({"".join(random.Random(n).choices("ab", k=1 + n % 14)) for n in range(9000)})
    texts = ["".join(f"{word}/" for word in order) for order in (words, words[::-1])]
    one, other = (prints.fingerprints(find_records(ids_of(t), ids_of("/"))) for t in texts)
    assert np.array_equal(one, other[::-1])
    assert len(np.unique(one)) == len(words)
