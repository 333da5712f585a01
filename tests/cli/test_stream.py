import math

import pytest

from charlstm.cli._stream import Ending, end_line, shaded


def ended(text: str, stops: list[str], cuts: list[int]) -> tuple[str, list[float], bool]:
    """Return the shown part of a text that arrives in pieces; each nat is its character's index."""
    ending, shown = Ending(stops), ""
    nats: list[float] = []
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece = ending.take(text[start:stop], [float(n) for n in range(start, stop)])
        shown, nats = shown + piece[0], nats + list(piece[1])
        assert text.startswith(shown)
    last = ending.rest()
    return shown + last[0], nats + list(last[1]), ending.complete


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ([], "abcabcabd\nx"),
        (["z"], "abcabcabd\nx"),
        (["abcabd"], "abc"),
        (["abd\n"], "abcabc"),
        (["d\nxy"], "abcabcabd\nx"),  # incomplete at the end
        (["bcab", "c"], "ab"),  # the first to be complete
        (["abca", "bca"], ""),  # complete at the same character: the longer
        (["a"], ""),
    ],
)
def test_a_text_ends_before_its_stop_text_however_it_is_split(
    stops: list[str], expected: str
) -> None:
    text = "abcabcabd\nx"
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            shown, nats, found = ended(text, stops, [first, second])
            assert shown == expected
            assert nats == list(range(len(expected)))
            assert found == (expected != text)


def test_only_the_start_of_a_stop_text_is_held_back() -> None:
    ending = Ending(["stop", "top!"])
    assert ending.take("a sto", [0.0] * 5)[0] == "a "
    assert ending.take("p", [0.0])[0] == ""
    assert ending.take("xyz", [0.0] * 3)[0] == ""


def test_shades_depend_on_bits_and_do_not_change_the_text() -> None:
    shown = shaded("ab\ncd", [bits * math.log(2) for bits in (0.5, 3, 9, 9, 9)])
    assert shown == "a\x1b[38;5;16;48;5;222mb\x1b[0m\n\x1b[38;5;16;48;5;203mcd\x1b[0m"


def test_ending_a_line_resets_the_colour(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    end_line(colour=True)
    end_line(colour=False)
    assert capsysbinary.readouterr().out == b"\x1b[0m\n\n"
