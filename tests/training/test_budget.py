"""A training that has a given time: what it chooses, and that the choice is all that it changes."""

import random
import tomllib
from pathlib import Path

import pytest
from conftest import SMALL, Run, lines_of, outcome

from charlstm.training import budget
from charlstm.training.budget import WIDTHS, Width, steps_in, width_for

# So much time that another option ends the training.
TIMED = [*SMALL, "--minutes", "60", "--max-steps", "40", "--sample-every", "0"]


def test_the_steps_fit_and_one_more_does_not() -> None:
    source = random.Random(3)
    for _ in range(10_000):
        left, step = source.uniform(0, 10_000), 10 ** source.uniform(-4, 2)
        steps, per_epoch = source.randint(1, 10_000), 10 ** source.uniform(-4, 2)
        count = steps_in(left, step, steps, per_epoch)
        ends = [-(-n // steps) for n in (count, count + 1)]  # each epoch that is begun has an end
        assert count == 0 or count * step + ends[0] * per_epoch <= left + 1e-6
        assert (count + 1) * step + ends[1] * per_epoch >= left - 1e-6


def test_more_time_never_chooses_a_narrower_model_and_never_more_than_the_preset() -> None:
    budgets = [1.1**exponent for exponent in range(500)]
    widths = [width_for(budget, 2048).units for budget in budgets]
    assert widths == sorted(widths)
    assert set(widths) == {width.units for width in WIDTHS}
    assert [width_for(budget, 192) for budget in budgets][-1] == Width(192, 0)


def test_the_run_equals_one_that_is_given_the_chosen_options(
    charlstm: Run, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the measured steps leave no trace, and a stopped run can continue exactly."""
    monkeypatch.setattr(budget, "LONGEST", 0.5)
    done = charlstm("train", "words.txt", *TIMED, "--run", "timed")
    assert done.returncode == 0, done.stderr.decode()
    assert any(line.startswith("time: ") for line in lines_of(done.stderr))
    chosen = words.parent / "timed/config.toml"
    options = tomllib.loads(chosen.read_text("utf-8"))
    assert options["units"] == 24  # an option that is typed is never changed
    assert options["max_steps"] == 40
    assert "minutes" not in options
    same = charlstm("train", "words.txt", "--config", chosen, "--run", "same")
    assert same.returncode == 0, same.stderr.decode()
    assert outcome(words.parent / "timed") == outcome(words.parent / "same")
    again = charlstm("train", "words.txt", *TIMED, "--run", "timed", "--resume")
    assert again.returncode == 0
    assert "already finished" in again.stderr.decode()


def test_too_little_time_is_a_one_line_error_and_leaves_nothing(charlstm: Run, words: Path) -> None:
    done = charlstm("train", "words.txt", *SMALL, "--minutes", "0.001")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == (
        "charlstm: --minutes: too little time for a single step; allow more"
    )
    assert list(words.parent.iterdir()) == [words]


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_minutes_are_above_0(minutes: str, charlstm: Run, words: Path) -> None:
    assert charlstm("train", words, "--minutes", minutes).returncode == 2
