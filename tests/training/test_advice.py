"""Advice is given once, when it is due, and never to a healthy training."""

import math

import pytest

from charlstm.run.history import Epoch
from charlstm.training.advice import advice

V = 7
FALLING = [2.0, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1]


def said(train: list[float], valid: list[float | None]) -> list[int]:
    """Return the epochs after which the model is said to overfit."""
    epochs = [Epoch(i + 1, *losses) for i, losses in enumerate(zip(train, valid, strict=False))]
    return [n for n in range(1, len(epochs) + 1) if list(advice(epochs[:n], V))]


@pytest.mark.parametrize(
    ("valid", "when"),
    [
        ([1.9, 1.8, 1.7, 1.6, 1.5, 1.4], []),
        ([1.5, 1.6, 1.7, 1.8, 1.9, 1.95], [4]),  # once, not again at 5 and 6
        ([1.9, 1.7, 1.8, 1.75, 1.8, 1.85], []),  # an epoch in between was better
        ([1.9, 1.6, 1.7, 1.8, 1.9, 1.7], [5]),
        ([1.9, 1.6, 1.7, 1.8, 1.8, 1.9], []),
        ([1.5, 1.6, 1.7, 1.8, 1.7, 1.8, 1.9, 2.0], [4]),  # once in a training
        ([None] * 6, []),
    ],
)
def test_overfitting_is_three_rises_in_a_row(valid: list[float | None], when: list[int]) -> None:
    assert said(FALLING, valid) == when


def test_rising_training_loss_is_not_overfitting() -> None:
    assert said(sorted(FALLING), [1.5, 1.6, 1.7, 1.8, 1.85, 1.9]) == []


def test_a_loss_far_above_a_uniform_guess_is_said() -> None:
    uniform = math.log(V)
    assert said([1.4 * uniform, 1.6 * uniform], [None, None]) == [2]
