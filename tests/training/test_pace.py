"""The comparison of several replicas with one."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from charlstm.text.windows import Windows
from charlstm.training import pace
from charlstm.training.reports import Ended, Note, Report, StepReport

STEP = 0.02  # seconds
WINDOWS = Windows(np.zeros(1000, np.uint8), 4, 10)


def reports(count: int) -> Iterator[Report]:
    for step in range(count):
        time.sleep(STEP)
        yield StepReport(1, step + 1, count, 0.0, 0.0)
    yield Ended("epochs")


@pytest.mark.parametrize(
    ("alone", "hint"),
    [(1.8 * STEP, ""), (0.9 * STEP, "use a larger {batch_size}, or fewer devices")],
)
def test_a_note_says_whether_several_replicas_pay(
    alone: float, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "MEASURED", 0.3)
    trainer: Any = SimpleNamespace(steps_per_call=2, replicas=2)
    found = list(pace.compared(reports(40), trainer, WINDOWS, alone))
    assert len(found) == 42
    assert isinstance(found[-1], Ended)
    (note,) = [report for report in found if isinstance(report, Note)]
    assert note.text.startswith("2 replicas train on 1,")
    assert f"one of them alone on {40 / alone:,.0f}: " in note.text
    assert note.hint == hint


def test_a_training_that_is_too_short_gets_no_note() -> None:
    trainer: Any = SimpleNamespace(steps_per_call=2, replicas=2)
    found = list(pace.compared(reports(10), trainer, WINDOWS, STEP))
    assert len(found) == 11
    assert not any(isinstance(report, Note) for report in found)
