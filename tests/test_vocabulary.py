import numpy as np
import pytest

from charlstm.errors import CharlstmError
from charlstm.vocabulary import Vocabulary, describe


def test_decode_undoes_encode() -> None:
    vocabulary = Vocabulary("\n ehlo学👩")
    ids = vocabulary.encode("hello 学\n👩")
    assert list(ids) == [3, 2, 4, 4, 5, 1, 6, 0, 7]
    assert vocabulary.decode(ids) == "hello 学\n👩"


def test_unknown_characters_are_each_named_once() -> None:
    with pytest.raises(CharlstmError) as error:
        Vocabulary("ab").encode("axébé\u0301x")
    line = str(error.value)
    assert line.count("U+0078") == line.count("U+00E9") == line.count("U+0301") == 1
    assert "U+0061" not in line
    assert "\n" not in line


@pytest.mark.parametrize(("size", "width"), [(2, 1), (256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_ids_are_as_narrow_as_they_can_be(size: int, width: int) -> None:
    characters = "".join(chr(i + 0x10000) for i in range(size))
    vocabulary = Vocabulary(characters)
    assert vocabulary.id_dtype.itemsize == width
    assert np.array_equal(vocabulary.encode(characters), np.arange(size))


def test_a_description_is_printable_on_any_terminal() -> None:
    for character in "\n\x07é\u0301\u200d\ud800\U000e0001":
        assert describe(character).isprintable()
