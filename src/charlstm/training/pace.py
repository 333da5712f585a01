"""How fast the steps of a training are, and whether several replicas pay."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

from charlstm.network.backend import tf
from charlstm.text.windows import Windows
from charlstm.training.reports import Note, Report, StepReport
from charlstm.training.step import Trainer, dropout_key

CALLS_BEFORE = 3  # calls that are not measured: the first ones are slower
MEASURED = 5.0  # seconds in which replicas are measured
WORTHWHILE = 1.2  # times as fast as one replica alone


def seconds_per_step(
    trainer: Trainer, windows: Windows, *, calls: int = 1, seconds: float = 0.0
) -> float:
    """Make the first steps of an epoch with learning rate 0; return the seconds per step.

    It makes at least so many ``calls``, for at least so many ``seconds``.
    """
    key = tf.constant(dropout_key(1, 1, 1), tf.int64)
    start, steps, before = monotonic(), 0, None
    for done, (call, element) in enumerate(_endless(trainer, windows), start=1):
        losses = trainer.advance(element, tf.zeros(len(call)), key)
        if before is not None:
            before.numpy()  # as in a training, the next call is already made
        before, steps = losses, steps + len(call)
        if done >= calls and monotonic() - start >= seconds:
            break
    losses.numpy()
    return (monotonic() - start) / steps


def _endless(trainer: Trainer, windows: Windows) -> Iterator[tuple[range, Any]]:
    """Yield the calls of an epoch and their windows again and again, read as in a training."""
    calls = trainer.calls(0, windows.steps).without_last()  # which would be compiled anew
    while True:
        yield from zip(calls, trainer.dataset(windows, calls), strict=True)


def compared(
    reports: Iterator[Report], trainer: Trainer, windows: Windows, alone: float
) -> Iterator[Report]:
    """Yield the reports of a training on several replicas, and a note on whether they pay.

    ``alone`` is the time of a step on one of them, in seconds.
    """
    skipped, began, steps = CALLS_BEFORE * trainer.steps_per_call, 0.0, 0
    for report in reports:
        yield report
        if isinstance(report, StepReport):
            steps += 1
            if steps == skipped:
                began = monotonic()
            elif began and monotonic() - began > MEASURED:
                together = (monotonic() - began) / (steps - skipped)
                size = windows.step_size
                yield _verdict(trainer.replicas, size / together, size / alone)
                break
    yield from reports


def _verdict(replicas: int, together: float, alone: float) -> Note:
    """Compare the speed of several replicas with that of one, in characters per second."""
    gain = together / alone
    return Note(
        f"{replicas} replicas train on {together:,.0f} characters/s, one of them alone on "
        f"{alone:,.0f}: {gain:.2f} times as fast",
        "" if gain >= WORTHWHILE else "use a larger {batch_size}, or fewer devices",
    )
