import math

import pytest

from charlstm.run.history import Epoch, best, bits_per_char, epochs, parse_line

CLOCK = {"seconds": 2.5, "characters_per_second": 100.0, "at": "2026-11-24T15:00:00+00:00"}
LINE = {"kind": "epoch", "epoch": 1, "train_loss": 2.0, "valid_loss": 1.5, "clock": CLOCK}


def test_an_epoch_is_read_from_its_line() -> None:
    assert epochs([{"kind": "step"}, LINE, {}]) == [Epoch(1, 2.0, 1.5, 2.5, 100.0)]


@pytest.mark.parametrize("value", [math.nan, math.inf, "2", [2.0], None, True])
def test_values_that_are_not_finite_numbers_become_none(value: object) -> None:
    clock = {**CLOCK, "seconds": value}
    assert epochs([{**LINE, "valid_loss": value, "clock": clock}]) == [
        Epoch(1, 2.0, None, None, 100.0)
    ]
    assert epochs([{**LINE, "clock": value}]) == [Epoch(1, 2.0, 1.5, None, None)]


@pytest.mark.parametrize("text", ["", '{"kind": "epo', "[]", "3", "[" * 10**5, "1" * 10**5])
def test_an_invalid_line_is_empty(text: str) -> None:
    assert parse_line(text) == {}


def test_the_best_epoch_is_the_earliest_with_the_lowest_loss() -> None:
    def line(epoch: int, loss: float | None) -> Epoch:
        return Epoch(epoch, 1.0, loss, None, None)

    assert best([line(1, 2.0), line(2, 1.5), line(3, 1.5), line(4, None)]) == 2
    assert best([line(1, None)]) is None


def test_one_bit_is_ln_2_nats() -> None:
    assert bits_per_char(math.log(256)) == pytest.approx(8)
