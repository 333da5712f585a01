"""The estimates of a training: remaining time and memory."""

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import lines_of, start

from charlstm.cli._eta import Eta, duration
from charlstm.training.reports import StepReport


def reported(steps: int, epochs: int, per_call: int, *, pace: float, first: int = 1) -> list[str]:
    """Return the lines for a training whose steps take ``pace`` seconds, after ten slower ones."""
    now = 0.0
    remaining = Eta(steps * epochs, steps, per_call, lambda: now)
    lines: list[str] = []
    done = 0
    for epoch in range(1, epochs + 1):
        for begin in range(0, steps, per_call):
            call = [
                s
                for s in range(begin, min(steps, begin + per_call))
                if (epoch, s + 1) >= (1, first)
            ]
            for _ in call:
                done += 1
                now += pace if done > 10 else 60
            reports = (StepReport(epoch, step + 1, steps, 1.0, 1.0) for step in call)
            lines += map(remaining.after, reports)
    return [line for line in lines if line]


@pytest.mark.parametrize("per_call", [1, 4, 7, 32])
def test_the_remaining_time_is_that_of_the_remaining_steps(per_call: int) -> None:
    """A thousand steps of 12 s take 3 h 20 min, less the steps done before the report."""
    (line,) = reported(500, 2, per_call, pace=12)
    found = re.fullmatch(r"about 3 h (\d+) min left", line)
    assert found
    assert abs(int(found[1]) - (20 - 51 * 12 / 60)) <= 1 + (per_call * 12 / 60)


def test_a_resumed_training_has_fewer_steps_left() -> None:
    (line,) = reported(1000, 1, 1, pace=12, first=701)
    assert line == "about 50 min left"


def test_a_short_training_and_a_short_remaining_time_are_not_reported() -> None:
    assert reported(51, 1, 1, pace=3600) == []
    assert reported(10, 5, 1, pace=3600) == []
    assert reported(500, 1, 1, pace=0.1) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (60, "1 min"),
        (3569, "59 min"),
        (3599, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit")
def test_memory_use_is_close_to_the_estimate(words: Path) -> None:
    options = "--units 640 --layers 1 --batch-size 64 --sequence-length 256 --max-steps 1"
    process = start(words.parent, "train", words, *options.split(), "--validation", "0")
    assert process.stderr
    err = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, err
    (said,) = (
        re.fullmatch(r"memory:  about ([\d.]+) GB(.*)", line)
        for line in lines_of(err)
        if "memory:" in line
    )
    assert said
    if not said[2]:  # with a GPU, the estimate is of its memory
        assert float(said[1]) * 1e9 == pytest.approx(usage.ru_maxrss * 1024, rel=0.3)
