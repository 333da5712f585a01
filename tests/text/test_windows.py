import numpy as np

from charlstm.text.windows import Windows

ALPHABET = np.arange(13, dtype=np.uint8)  # the example in the docstring of Windows


def test_the_example_in_the_docstring_is_correct() -> None:
    windows = Windows(ALPHABET, batch_size=2, sequence_length=3)
    letters = [
        ["".join("abcdefghijklm"[i] for i in row) for row in windows.window(s)] for s in (0, 1)
    ]
    assert windows.steps == 2
    assert letters == [["abcd", "ghij"], ["defg", "jklm"]]


def test_each_row_continues_in_the_next_step() -> None:
    windows = Windows(np.arange(251, dtype=np.uint8), batch_size=3, sequence_length=7)
    for step in range(windows.steps - 1):
        assert np.array_equal(windows.window(step)[:, -1], windows.window(step + 1)[:, 0])


def test_every_used_id_is_an_input_once_and_its_target_is_the_next() -> None:
    for count in range(22, 90):
        windows = Windows(np.arange(count, dtype=np.uint8), batch_size=3, sequence_length=7)
        inputs = np.concatenate([windows.window(s)[:, :-1] for s in range(windows.steps)], axis=1)
        targets = np.concatenate([windows.window(s)[:, 1:] for s in range(windows.steps)], axis=1)
        used = 21 * ((count - 1) // 21)
        assert np.array_equal(inputs.ravel(), np.arange(used))
        assert np.array_equal(targets, inputs + 1)
        assert windows.unused == count - used - 1


def test_too_few_ids_for_a_step_give_no_steps() -> None:
    assert Windows(ALPHABET[:7], batch_size=2, sequence_length=3).steps == 1
    assert Windows(ALPHABET[:6], batch_size=2, sequence_length=3).steps == 0
