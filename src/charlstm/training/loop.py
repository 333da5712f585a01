"""The training loop: run steps, validate, save, append to the history, and yield reports.

Knows no gradients, no command line and no terminal.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.network.backend import tf
from charlstm.network.device import Device
from charlstm.network.workers import lost_workers
from charlstm.run.folder import RunFolder
from charlstm.text.encoding import Corpus
from charlstm.text.records import Records
from charlstm.text.source import Ids
from charlstm.text.windows import Windows
from charlstm.training.advice import advice
from charlstm.training.clock import Clock
from charlstm.training.pace import CALLS_BEFORE, MEASURED, compared, seconds_per_step
from charlstm.training.position import Position, Reason, finished
from charlstm.training.reports import Ended, EpochReport, Note, Origin, Report, StepReport
from charlstm.training.saving import Saving, not_finite
from charlstm.training.schedule import Schedule
from charlstm.training.step import (
    CALLS_IN_FLIGHT,
    Trainer,
    device_errors,
    dropout_key,
    make_trainer,
)
from charlstm.training.validation import validated
from charlstm.training.views import Views
from charlstm.training.wishes import Wishes


@dataclass(frozen=True)
class Training:
    """A training that is ready to run: model, text, run folder, device and starting position.

    ``at`` is the starting position; the trainer already has its weights and states. ``is_new``:
    nothing has been saved yet. ``stopped`` returns True when the training should save and end.
    ``notes`` are shown to the user first. ``close`` releases ``resources``.
    """

    model: ModelConfig
    corpus: Corpus
    windows: Windows
    validation: Ids | Records
    run_folder: RunFolder
    trainer: Trainer
    device: Device
    at: Position
    is_new: bool
    origin: Origin
    views: Views | None = None
    stopped: Callable[[], bool] = lambda: False
    notes: tuple[str, ...] = ()
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def config(self) -> TrainConfig:
        """The options in effect: ``precision`` is resolved, so it is never auto."""
        return self.trainer.config

    @property
    def finished(self) -> Reason | None:
        """Why nothing is left to train at the starting position; None if something is left."""
        return finished(self.at, self.config, self.windows.steps, self.run_folder)

    def run(self) -> Iterator[Report]:
        """Train: write an epoch file after each epoch, append to the history, and yield reports.

        A new run folder gets its final name after the first step, so an earlier failure leaves no
        trace. The resume file is written before the first step of a new run, every
        ``save_minutes``, after each epoch, and when ``stopped`` returns True.

        Raises CharlstmError if the loss is not finite, the device runs out of memory, or another
        worker of the cluster ends.
        """
        with lost_workers(self.device.cluster):
            reports = _train(self)
            if self.is_new and self.device.replicas > 1 and self.device.cluster.is_chief:
                reports = self._compared(reports)
            yield from reports

    def _compared(self, reports: Iterator[Report]) -> Iterator[Report]:
        """Yield the reports, and a note on whether several replicas pay, if one can be measured."""
        one = replace(self.device, replicas=1, strategy=tf.distribute.get_strategy())
        try:
            with device_errors(self.config):
                alone = make_trainer(self.model, self.config, len(self.corpus.vocabulary), one)
                seconds_per_step(alone, self.windows, calls=CALLS_BEFORE)
                step = seconds_per_step(alone, self.windows, seconds=MEASURED)
        except CharlstmError:  # too little memory
            return reports
        return compared(reports, self.trainer, self.windows, step)

    def close(self) -> None:
        """Release the run folder; a new one without a finished step is removed."""
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stopped(Exception):  # noqa: N818 - no error
    """The user stopped the training during validation."""


def _stop_if(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise _Stopped


def _train(training: Training) -> Iterator[Report]:
    trainer, run = training.trainer, training.run_folder
    yield from map(Note, training.notes)
    saving = Saving(trainer, training.model, training.corpus, run, training.stopped)
    clock = Clock(training.at.seconds)
    if training.finished is None:
        with device_errors(training.config):
            trainer.trace(training.windows)
        if training.is_new:
            saving.save(training.at)
        else:
            run.cut_history(training.at.history_bytes)
    reason = yield from _epochs(training, saving, clock)
    if training.views:
        yield from map(Note, training.views.at_end())
    yield Ended(reason)


def _epochs(training: Training, saving: Saving, clock: Clock) -> Generator[Report, None, Reason]:
    """Run the epochs that are left; return why the training ended."""
    at, run, windows = training.at, training.run_folder, training.windows
    while not (reason := finished(at, training.config, windows.steps, run)):
        if saving.wishes.told_to_stop:
            return "stopped"
        steps = _steps_in(at.epoch, windows.steps, training.config)
        started, before = clock.seconds(), at.step
        at = yield from _run_steps(training, saving, at, steps, clock)
        if at.step < steps:
            return "stopped"
        time = clock.record((steps - before) * windows.step_size, started)
        try:
            report = _finish_epoch(training, saving, at.epoch, at.total / steps, time)
        except _Stopped:
            saving.save(replace(at, seconds=clock.seconds()))
            return "stopped"
        at = replace(at, epoch=at.epoch + 1, step=0, total=0.0, seconds=clock.seconds())
        saving.save(at)
        if training.config.keep:
            run.keep_newest(training.config.keep)
        yield report
        yield from advice(run.finished_epochs(), len(training.corpus.vocabulary))
        if training.views:
            yield from map(Note, training.views.after_epoch())
    return reason


def _steps_in(epoch: int, steps: int, config: TrainConfig) -> int:
    """Return how many of an epoch's ``steps`` are made, as limited by ``max_steps``."""
    return min(steps, config.max_steps - (epoch - 1) * steps) if config.max_steps else steps


def _run_steps(
    training: Training, saving: Saving, at: Position, steps: int, clock: Clock
) -> Generator[Report, None, Position]:
    """Run an epoch from ``at`` until step ``steps`` or until stopped; return the new position."""
    run, log_every = training.run_folder, training.config.log_every
    logged, before = clock.seconds(), at.step
    if at.step == 0:
        training.trainer.reset_state()
    for step, loss, exact in _losses(training, saving.wishes, at, steps):
        if not math.isfinite(loss):
            raise not_finite(at.epoch, step)
        if at.epoch == step == 1:
            run.settle()
        smooth_loss = 0.999 * at.smooth_loss + 0.001 * loss
        at = replace(at, step=step, total=at.total + loss, smooth_loss=smooth_loss)
        if step % log_every == 0:
            time = clock.record((step - before) * training.windows.step_size, logged)
            logged, before = time["seconds"], step
            both = {"loss": loss, "smooth_loss": smooth_loss}
            run.append_history(
                {"kind": "step", "epoch": at.epoch, "step": step, **both, "clock": time}
            )
        yield StepReport(at.epoch, step, steps, loss, smooth_loss)
        if step % log_every == 0 and training.views:
            yield from map(Note, training.views.after_step())
        if exact and saving.wishes.save:
            saving.save(replace(at, seconds=clock.seconds()))
            if saving.wishes.stop:
                break
    return at


def _losses(
    training: Training, wishes: Wishes, at: Position, steps: int
) -> Iterator[tuple[int, float, bool]]:
    """Run an epoch from ``at`` until step ``steps``.

    Yields for each step its number, from 1, its loss, and whether the trainer's weights are exactly
    those after this step. Fetching a loss waits for the device, so losses are fetched
    CALLS_IN_FLIGHT calls late. All are fetched at the first and the last call, and when the
    training should save or stop.
    """
    trainer, windows = training.trainer, training.windows.of_epoch(at.epoch)
    pending: deque[tuple[int, Any, Any]] = deque()
    schedule = Schedule(trainer.config, windows.steps)
    calls = trainer.calls(at.step, steps)
    elements = iter(trainer.dataset(windows, calls))
    for call in calls:
        rates = tf.constant([schedule.rate(at.epoch, step + 1) for step in call], tf.float32)
        key = tf.constant(dropout_key(trainer.config.seed, at.epoch, call.start + 1), tf.int64)
        with device_errors(trainer.config):
            losses = trainer.advance(next(elements), rates, key)
            pending.append((call.start + 1, losses, wishes.tell()))
        wait = call in {calls[0], calls[-1]} or wishes.save
        while len(pending) > (0 if wait else CALLS_IN_FLIGHT):
            first, losses, told = pending.popleft()
            with device_errors(trainer.config):
                values = losses.numpy().tolist()
                wishes.hear(told)
            for i, value in enumerate(values):
                yield first + i, value, not pending and i == len(values) - 1


def _finish_epoch(
    training: Training, saving: Saving, epoch: int, train_loss: float, time: dict[str, Any]
) -> EpochReport:
    """Validate, write the epoch file, then append the epoch to the history."""
    # The workers of a cluster stop together, after the epoch.
    stopped = training.stopped if training.device.cluster.size == 1 else lambda: False
    tick = partial(_stop_if, stopped)
    weights, valid_loss = validated(training.trainer, training.validation, tick=tick)
    losses = {"train_loss": train_loss, "valid_loss": valid_loss}
    path = saving.save_epoch(epoch, weights, losses, time)
    return EpochReport(epoch, train_loss, valid_loss, time["characters_per_second"], path)
