"""What a training tells about itself before it has gone far: memory and time."""

import os
import re
import sys
from pathlib import Path

import pytest
from conftest import lines_of, start

from charlstm.cli._eta import Eta, duration
from charlstm.training.reports import StepReport


def told(steps: int, epochs: int, per_call: int, *, pace: float, first: int = 1) -> list[str]:
    """Return what is said of a training whose steps take ``pace`` seconds, but the first ten."""
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
def test_the_time_to_the_end_is_that_of_the_steps_that_are_left(per_call: int) -> None:
    """A thousand steps of 12 s take 3 h 20 min; those that are done by then are less."""
    (line,) = told(500, 2, per_call, pace=12)
    found = re.fullmatch(r"about 3 h (\d+) min to the end", line)
    assert found
    assert abs(int(found[1]) - (20 - 51 * 12 / 60)) <= 1 + (per_call * 12 / 60)


def test_a_training_that_was_resumed_has_less_to_do() -> None:
    (line,) = told(1000, 1, 1, pace=12, first=701)
    assert line == "about 50 min to the end"


def test_a_short_training_and_a_short_rest_are_worth_no_line() -> None:
    assert told(51, 1, 1, pace=3600) == []
    assert told(10, 5, 1, pace=3600) == []
    assert told(500, 1, 1, pace=0.1) == []


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
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is Linux's")
def test_memory_is_about_what_was_said(words: Path) -> None:
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
    if not said[2]:  # of a GPU it is another memory
        assert float(said[1]) * 1e9 == pytest.approx(usage.ru_maxrss * 1024, rel=0.3)
