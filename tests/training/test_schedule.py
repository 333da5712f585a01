import math
from typing import Any

import pytest

from charlstm.config import TrainConfig
from charlstm.training.schedule import Schedule, total_steps

STEPS, EPOCHS = 10, 5


def rates(**options: Any) -> list[float]:
    """Return the rate of each step, relative to the learning rate; 5 epochs of 10 steps."""
    config = TrainConfig(learning_rate=0.5, epochs=EPOCHS, **options)
    schedule = Schedule(config, STEPS)
    places = [(epoch + 1, step + 1) for epoch in range(EPOCHS) for step in range(STEPS)]
    return [schedule.rate(*place) / 0.5 for place in places]


def test_constant_keeps_the_learning_rate() -> None:
    config = TrainConfig(learning_rate=0.002)
    assert Schedule(config, STEPS).rate(3, 4) == 0.002
    assert set(rates()) == {1.0}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
def test_warmup_rises_linearly_to_the_rate_of_the_schedule(schedule: str) -> None:
    found = rates(schedule=schedule, warmup=4, decay_after=1)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_cosine_is_halfway_in_the_middle_and_ends_at_two_percent() -> None:
    found = rates(schedule="cosine")
    assert found == sorted(found, reverse=True)
    assert found[24] == pytest.approx(0.51)
    assert found[-1] == pytest.approx(0.02, abs=1e-12)
    assert found[9] == pytest.approx(0.02 + 0.49 * (1 + math.cos(math.pi / 5)))


def test_cosine_starts_when_the_warmup_ends() -> None:
    found = rates(schedule="cosine", warmup=10)
    assert found[9] == 1.0
    assert found[29] == pytest.approx(0.51)
    assert found[-1] == pytest.approx(0.02, abs=1e-12)


def test_cosine_ends_at_max_steps_and_stays_there() -> None:
    found = rates(schedule="cosine", max_steps=20)
    assert found[9] == pytest.approx(0.51)
    assert found[19:] == pytest.approx([0.02] * 31)


def test_schedule_epochs_sets_the_length_of_cosine() -> None:
    found = rates(schedule="cosine", schedule_epochs=2)
    assert found[9] == pytest.approx(0.51)
    assert found[19:] == pytest.approx([0.02] * 31)


def test_the_total_is_the_steps_of_all_epochs_or_max_steps() -> None:
    assert total_steps(TrainConfig(epochs=5, schedule_epochs=2), STEPS) == 50
    assert total_steps(TrainConfig(epochs=5, max_steps=17), STEPS) == 17


def test_a_warmup_longer_than_the_training_does_not_divide_by_zero() -> None:
    assert rates(schedule="cosine", warmup=100)[-1] == pytest.approx(0.5)


def test_exponential_falls_at_the_start_of_each_epoch_after_decay_after() -> None:
    found = rates(schedule="exponential", decay=0.5, decay_after=2)
    assert found == [1.0] * 20 + [0.5] * 10 + [0.25] * 10 + [0.125] * 10
