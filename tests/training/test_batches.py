"""The steps of an epoch, in calls."""

import pytest

from charlstm.training.batches import Calls


@pytest.mark.parametrize("size", [1, 3, 7, 32])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (0, 21), (5, 21), (6, 20), (9, 9)])
def test_calls_have_every_step_once_and_the_same_boundaries_from_any_start(
    start: int, stop: int, size: int
) -> None:
    calls = Calls(start, stop, size)
    assert [step for call in calls for step in call] == [*range(start, stop)]
    assert len(calls) == len([*calls])
    assert all(call.start % size == 0 for call in [*calls][1:])
    assert all(len(call) <= size for call in calls)
    if len(calls) > 1:
        assert [*calls.without_last()] == [*calls][:-1]
        assert calls[-1] == [*calls][-1]


def test_millions_of_calls_take_no_memory() -> None:
    calls = Calls(0, 10**10, 3)
    assert len(calls) == 3333333334
    assert calls[-1] == range(9999999999, 10**10)
