import math

import pytest

from charlstm.cli._stream import Ending, end_line, shaded


def ended(text: str, stops: list[str], cuts: list[int]) -> tuple[str, list[float], bool]:
    """Return what is shown of a text that comes in pieces; its nats are their places."""
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
        (["d\nxy"], "abcabcabd\nx"),  # could still have come
        (["bcab", "c"], "ab"),  # complete first
        (["abca", "bca"], ""),  # complete at once: the longer
        (["a"], ""),
    ],
)
def test_a_text_ends_before_its_stop_wherever_the_pieces_end(
    stops: list[str], expected: str
) -> None:
    text = "abcabcabd\nx"
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            shown, nats, found = ended(text, stops, [first, second])
            assert shown == expected
            assert nats == list(range(len(expected)))
            assert found == (expected != text)


def test_only_what_could_become_a_stop_is_held_back() -> None:
    ending = Ending(["stop", "top!"])
    assert ending.take("a sto", [0.0] * 5)[0] == "a "
    assert ending.take("p", [0.0])[0] == ""
    assert ending.take("xyz", [0.0] * 3)[0] == ""


def test_shades_are_by_bits_and_leave_the_text_as_it_is() -> None:
    shown = shaded("ab\ncd", [bits * math.log(2) for bits in (0.5, 3, 9, 9, 9)])
    assert shown == "a\x1b[38;5;16;48;5;222mb\x1b[0m\n\x1b[38;5;16;48;5;203mcd\x1b[0m"


def test_a_line_that_ends_leaves_no_colour_behind(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Wherever Ctrl+C came."""
    end_line(colour=True)
    end_line(colour=False)
    assert capsysbinary.readouterr().out == b"\x1b[0m\n\n"
