"""The training loop: epochs of steps, saves, history; yields reports.

Knows no gradients, no command line and no terminal.
"""

import math
import os
import platform
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import __version__
from charlstm.backend import Device, keras, processor, tf
from charlstm.batches import Windows
from charlstm.checkpoint import LAYERS, Checkpoint, Resume
from charlstm.config import ModelConfig, TrainConfig
from charlstm.corpus import Ids
from charlstm.errors import CharlstmError
from charlstm.evaluation import evaluate
from charlstm.history import steps_done
from charlstm.run_folder import RunFolder
from charlstm.schedule import Schedule
from charlstm.trainer import CALLS_IN_FLIGHT, Trainer, dropout_key, named_failures
from charlstm.vocabulary import Vocabulary

# What TensorFlow and all else of a process need on a CPU, in bytes: measured.
OF_TENSORFLOW = 800_000_000

TEXT = "text"  # in a saved position, the SHA-256 of the text


@dataclass(frozen=True)
class StepReport:
    """One finished step; ``step`` of ``steps`` in this epoch, from 1; losses are nats."""

    epoch: int
    step: int
    steps: int
    loss: float
    smooth_loss: float


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch, written to ``path``; losses are nats, ``valid_loss`` if validated."""

    epoch: int
    train_loss: float
    valid_loss: float | None
    characters_per_second: float
    path: Path


@dataclass(frozen=True)
class Position:
    """Where a training is: ``step`` steps of ``epoch`` are done, with ``total`` as sum of losses.

    ``history_bytes`` is how long the history was, ``seconds`` how much time it has taken.
    """

    epoch: int
    step: int
    total: float
    smooth_loss: float
    history_bytes: int
    seconds: float


@dataclass(frozen=True)
class Job:
    """What is trained on and where it goes.

    ``parts`` are the ids for training and for validation (none of these: no validation), of a text
    with this ``sha256``. ``init`` are weights to begin with, instead of those that follow from the
    seed. ``resume`` is what a training left that was stopped ``at`` its position; ``stopped`` tells
    that this one shall.
    """

    model: ModelConfig
    vocabulary: Vocabulary
    parts: tuple[Ids, Ids]
    run: RunFolder
    sha256: str = ""
    init: list[NDArray[np.float32]] | None = None
    resume: Checkpoint | None = None
    at: Position | None = None
    stopped: Callable[[], bool] = lambda: False


class _Clock:
    """What tells time, kept apart from all that a repeated run must repeat."""

    def __init__(self, seconds: float) -> None:
        self._start = monotonic() - seconds

    def seconds(self) -> float:
        return round(monotonic() - self._start, 3)

    def record(self, characters: int, since: float) -> dict[str, Any]:
        now = self.seconds()
        return {
            "seconds": now,
            "characters_per_second": round(characters / max(now - since, 1e-3), 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


class _Stopped(Exception):  # noqa: N818 - no error
    """Validation was asked to stop."""


def _stop_if(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise _Stopped


class _Saving:
    """When the state of a training is written, and what that takes."""

    def __init__(self, trainer: Trainer, job: Job, windows: Windows) -> None:
        self.trainer = trainer
        self.job = job
        self.windows = windows
        self._saved = monotonic()

    def due(self) -> bool:
        late = monotonic() - self._saved >= 60 * self.trainer.config.save_minutes
        return late or self.job.stopped()

    def save(self, at: Position) -> None:
        """Write the file that ``--resume`` reads; the history of before it is safe by then."""
        history_bytes = self.job.run.sync_history()
        # Of an epoch without a step these are the weights of the one before.
        epoch = at.epoch if at.step else at.epoch - 1
        done = {"train_loss": at.total / at.step if at.step else None, "valid_loss": None}
        position = asdict(replace(at, history_bytes=history_bytes)) | {TEXT: self.job.sha256}
        resume = Resume(position, self.trainer.states())
        arrays = self.trainer.model.arrays()
        _check_finite(at.epoch, at.step, *arrays, *resume.arrays.values())
        self.job.run.write_resume(
            _checkpoint(self.trainer, self.job, epoch, arrays, done, resume=resume)
        )
        self._saved = monotonic()


def train(trainer: Trainer, job: Job) -> Iterator[StepReport | EpochReport]:
    """Train, write an epoch file after each epoch, keep the history, and report.

    A run is placed when its first step is done: what fails before that leaves no trace. What a
    resumed training needs is written before the first step, every ``save_minutes``, at each
    epoch's end, and when ``stopped`` tells to stop, which ends the reports.

    Raises CharlstmError if the loss is not finite or the device has too little memory.
    """
    config = trainer.config
    windows = Windows(job.parts[0], config.batch_size, config.sequence_length)
    at = job.at or Position(1, 0, 0.0, math.log(len(job.vocabulary)), 0, 0.0)
    if job.resume:
        trainer.restore(job.resume)
    elif job.init:
        trainer.model.set_arrays(job.init)
    saving = _Saving(trainer, job, windows)
    with named_failures(config):
        trainer.trace(windows)
    if job.resume:
        job.run.cut_history(at.history_bytes)
    else:
        saving.save(at)
    clock = _Clock(at.seconds)
    while not finished(at, config, windows, job.run):
        started, begun = clock.seconds(), at.step
        steps = windows.steps
        if config.max_steps:
            steps = min(steps, config.max_steps - (at.epoch - 1) * windows.steps)
        at = yield from _run_steps(saving, at, steps, clock)
        if at.step < steps:
            return
        time = clock.record((steps - begun) * windows.step_size, started)
        try:
            report = _finish_epoch(trainer, job, at.epoch, at.total / steps, time)
        except _Stopped:
            saving.save(replace(at, seconds=clock.seconds()))
            return
        at = replace(at, epoch=at.epoch + 1, step=0, total=0.0, seconds=clock.seconds())
        saving.save(at)
        if config.keep:
            job.run.keep_newest(config.keep)
        yield report


def _run_steps(
    saving: _Saving, at: Position, steps: int, clock: _Clock
) -> Generator[StepReport, None, Position]:
    """Run an epoch from a position on until ``steps`` of it are done, or stopped; return where."""
    trainer, job = saving.trainer, saving.job
    log_every = trainer.config.log_every
    logged, before = clock.seconds(), at.step
    if at.step == 0:
        trainer.model.reset_state()
    for step, loss, exact in _losses(saving, at, steps):
        if not math.isfinite(loss):
            raise _not_finite(at.epoch, step)
        if at.epoch == step == 1:
            job.run.place()
        smooth_loss = 0.999 * at.smooth_loss + 0.001 * loss
        at = replace(at, step=step, total=at.total + loss, smooth_loss=smooth_loss)
        if step % log_every == 0:
            time = clock.record((step - before) * saving.windows.step_size, logged)
            logged, before = time["seconds"], step
            losses = {"loss": loss, "smooth_loss": smooth_loss}
            job.run.append_history(
                {"kind": "step", "epoch": at.epoch, "step": step, **losses, "clock": time}
            )
        yield StepReport(at.epoch, step, steps, loss, smooth_loss)
        if exact and saving.due():
            saving.save(replace(at, seconds=clock.seconds()))
            if job.stopped():
                break
    return at


def forecast(trainer: Trainer, job: Job) -> int:
    """Return about how many bytes the run folder will have at the end."""
    weights, states = trainer.sizes()
    ids = sum(part.nbytes for part in job.parts)
    epochs = trainer.config.epochs
    kept = min(epochs, (trainer.config.keep or epochs) + 1)  # and the best
    return (kept + 1) * weights + states + ids


def memory(trainer: Trainer, job: Job, device: Device) -> int:
    """Return about how many bytes a training needs at most; on a GPU, of the GPU's memory.

    On a CPU, weights and the optimizer's slots are there four times while they are saved.
    """
    weights, states = trainer.sizes()
    _, gates, _ = LAYERS[job.model.cell]
    # Of each unit and character, until its gradient is computed: measured.
    numbers = job.model.layers * job.model.units * (2 * gates + 4)
    characters = trainer.config.batch_size * trainer.config.sequence_length
    step = 4 * characters * (numbers + 2 * len(job.vocabulary))
    if device.cudnn:
        return 2 * weights + states + step
    return OF_TENSORFLOW + 4 * (weights + states) + step


def position(checkpoint: Checkpoint, job: Job) -> Position:
    """Return where the training was that left a file; of an epoch's file, behind that epoch.

    Raises CharlstmError if the file is of another training, or says nothing that could be true.
    """
    ours = (job.model, job.vocabulary) == (checkpoint.model, checkpoint.vocabulary)
    if checkpoint.resume is None and ours:
        epoch, loss = checkpoint.epoch, checkpoint.metrics.get("train_loss")
        smooth_loss = loss if isinstance(loss, float) else 0.0
        return Position(epoch + 1, 0, 0.0, smooth_loss, job.run.history_until(epoch), 0.0)
    found = checkpoint.resume.position if checkpoint.resume else {}
    if not ours or found.get(TEXT) != job.sha256:
        raise _foreign(job.run, "the state of another model or text")
    for item in fields(Position):
        value: Any = found.get(item.name)
        if type(value) is not item.type or not 0 <= value < math.inf:
            raise _foreign(job.run, f"no {item.name} that could be true")
    return Position(**{item.name: found[item.name] for item in fields(Position)})


def _foreign(run: RunFolder, what: str) -> CharlstmError:
    return CharlstmError(
        f"{run.resume_path}: has {what}; put the run's own back, or begin with --overwrite"
    )


def steps_lost(at: Position, job: Job, steps: int) -> int:
    """Return how many steps behind a position the history has, of epochs of ``steps``."""
    done = max((steps_done(line, steps) for line in job.run.history()[0]), default=0)
    return max(0, done - (at.epoch - 1) * steps - at.step)


def finished(at: Position, config: TrainConfig, windows: Windows, run: RunFolder) -> bool:
    """Tell whether nothing is left to train from a position on."""
    at_the_end = at.epoch > config.epochs or out_of_steps(at, config, windows)
    return at.step == 0 and (at_the_end or out_of_patience(config, run))


def out_of_steps(at: Position, config: TrainConfig, windows: Windows) -> bool:
    """Tell whether the epochs before a position have all the steps there may be."""
    return (at.epoch - 1) * windows.steps >= (config.max_steps or math.inf)


def out_of_patience(config: TrainConfig, run: RunFolder) -> bool:
    """Tell whether validation loss has not become better for long enough."""
    return config.patience is not None and run.epochs_since_best() >= config.patience


def _losses(saving: _Saving, at: Position, steps: int) -> Iterator[tuple[int, float, bool]]:
    """Run an epoch from a position on until ``steps`` of it are done.

    Yields the number of each step, from 1, its loss, and whether the weights are those behind it.
    Losses are fetched some calls late, since a fetch waits for the device; but for the first, the
    last, and when a save is due.
    """
    trainer = saving.trainer
    pending: deque[tuple[int, Any]] = deque()
    schedule = Schedule(trainer.config, saving.windows.steps)
    calls = trainer.calls(at.step, steps)
    elements = iter(trainer.dataset(saving.windows, calls))
    for call in calls:
        rates = tf.constant([schedule.rate(at.epoch, step + 1) for step in call], tf.float32)
        key = tf.constant(dropout_key(trainer.config.seed, at.epoch, call.start + 1), tf.int64)
        with named_failures(trainer.config):
            pending.append((call.start + 1, trainer.advance(next(elements), rates, key)))
        wait = call in {calls[0], calls[-1]} or saving.due()
        while len(pending) > (0 if wait else CALLS_IN_FLIGHT):
            first, losses = pending.popleft()
            with named_failures(trainer.config):
                values = losses.numpy().tolist()
            for i, value in enumerate(values):
                yield first + i, value, not pending and i == len(values) - 1


def _checkpoint(
    trainer: Trainer,
    job: Job,
    epoch: int,
    arrays: list[NDArray[np.float32]],
    losses: Any,
    **rest: Any,
) -> Checkpoint:
    return Checkpoint(
        epoch=epoch,
        model=job.model,
        vocabulary=job.vocabulary,
        arrays=arrays,
        metrics=losses,
        training=asdict(trainer.config),
        versions=versions(),
        **rest,
    )


def _finish_epoch(
    trainer: Trainer, job: Job, epoch: int, train_loss: float, time: dict[str, Any]
) -> EpochReport:
    """Validate, write the epoch file, then its line of history."""
    valid_loss = None
    arrays = trainer.model.arrays()
    if len(job.parts[1]):
        with named_failures(trainer.config):
            if trainer.exact is not trainer.model:
                trainer.exact.set_arrays(arrays)
            found = evaluate(
                trainer.exact,
                job.parts[1],
                sequence_length=trainer.config.sequence_length,
                tick=partial(_stop_if, job.stopped),
            )
        valid_loss = found.nats_per_char
    _check_finite(epoch, 0, valid_loss or 0, *arrays)
    losses = {"train_loss": train_loss, "valid_loss": valid_loss}
    path = job.run.write_epoch(_checkpoint(trainer, job, epoch, arrays, losses, clock=time))
    job.run.append_history({"kind": "epoch", "epoch": epoch, **losses, "clock": time})
    return EpochReport(epoch, train_loss, valid_loss, time["characters_per_second"], path)


def versions() -> dict[str, str]:
    """Return what computes: with the same of all of these, the same numbers come out."""
    return {
        "charlstm": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "cores": str(os.cpu_count()),
    }


def _check_finite(epoch: int, step: int, *parts: Any) -> None:
    """Refuse what must not be saved; step 0 is the end of the epoch.

    Raises CharlstmError.
    """
    if not all(np.isfinite(part).all() for part in parts):
        raise _not_finite(epoch, step)


def _not_finite(epoch: int, step: int) -> CharlstmError:
    where = f"epoch {epoch}, {f'step {step:,}' if step else 'at its end'}"
    return CharlstmError(
        f"{where}: the loss or the weights are not finite; nothing was saved after it; "
        "try a smaller --learning-rate, or a --clip-norm such as 1"
    )
