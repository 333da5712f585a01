import numpy as np
import pytest

from charlstm.text.vocabulary import Vocabulary, code_points, describe


def test_decode_undoes_encode() -> None:
    vocabulary = Vocabulary("\n ehlo学👩")
    ids = vocabulary.encode("hello 学\n👩")
    assert list(ids) == [3, 2, 4, 4, 5, 1, 6, 0, 7]
    assert vocabulary.decode(ids) == "hello 学\n👩"


def test_only_characters_of_the_vocabulary_have_ids() -> None:
    """Unknown characters are not mistaken for the character with id 0."""
    ids, known = Vocabulary("aé学").look_up(code_points("xa学b\U0010ffff"))
    assert list(known) == [False, True, True, False, False]
    assert list(ids[known]) == [0, 2]


@pytest.mark.parametrize(("size", "width"), [(2, 1), (256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_ids_have_the_narrowest_type_that_fits(size: int, width: int) -> None:
    characters = "".join(chr(i + 0x10000) for i in range(size))
    vocabulary = Vocabulary(characters)
    assert vocabulary.id_dtype.itemsize == width
    assert np.array_equal(vocabulary.encode(characters), np.arange(size))


def test_a_description_is_printable_on_any_terminal() -> None:
    for character in "\n\x07é\u0301\u200d\ud800\U000e0001":
        assert describe(character).isprintable()
