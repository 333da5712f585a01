"""The training loop: compiled steps under a distribution strategy; yields reports.

The only room that changes weights. Knows no command line and no terminal.
"""

import contextlib
import math
import os
import platform
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm import __version__
from charlstm.backend import Device, keras, processor, tf
from charlstm.batches import Windows
from charlstm.checkpoint import Checkpoint, Resume, parameters
from charlstm.config import ModelConfig, TrainConfig
from charlstm.corpus import Ids
from charlstm.errors import CharlstmError
from charlstm.evaluation import evaluate, nats
from charlstm.model import build_model
from charlstm.run_folder import RunFolder
from charlstm.vocabulary import Vocabulary

# A call of the compiled function makes several steps, so that what a call costs, half a
# millisecond, is shared: as many steps as this much arithmetic is enough for (a twentieth of a
# second of a few cores, of one GPU), since Ctrl+C is only answered between calls.
CALL_FLOP = {"cpu": 1e10, "gpu": 1e12}
MOST_STEPS_PER_CALL = 32

# What a step keeps for a unit and a character until its gradient is computed, and what TensorFlow
# and all else of a process need: both measured, on a CPU.
NUMBERS_PER_UNIT, OF_TENSORFLOW = 12, 800_000_000

# Calls that may be on their way before the loop waits for their losses: printing never stalls the
# device, and a loss that is not finite is noticed this soon.
CALLS_IN_FLIGHT = 2


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


class Trainer:
    """Model, optimizer and the compiled steps, built under the strategy in scope."""

    def __init__(
        self, model_config: ModelConfig, config: TrainConfig, vocab_size: int, *, cudnn: bool
    ) -> None:
        self.config = config
        self.strategy = tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        build = partial(
            build_model,
            model_config,
            vocab_size,
            batch_size=config.batch_size // self.replicas,
            cudnn=cudnn,
        )
        with self.strategy.scope():
            self.model = build(seed=config.seed, precision=config.precision)
            # What validates is what a weights file makes: float32.
            reduced = config.precision in {"bfloat16", "float16"}
            self.exact = build() if reduced else self.model
            self.optimizer = make_optimizer(config)
            self.optimizer.build(self.model.trainable_variables)
        # A weight costs a multiplication and an addition for each character, forward, and twice
        # that backward: for its input's gradient and for its own.
        characters = config.batch_size * config.sequence_length
        flop = 6 * parameters(model_config, vocab_size) * characters
        enough = math.ceil(CALL_FLOP["gpu" if cudnn else "cpu"] / flop)
        self.steps_per_call = min(enough, MOST_STEPS_PER_CALL)
        self.advance = tf.function(self._advance, autograph=False)
        # On one CPU XLA halves the time of the optimizer: it passes over the weights only once.
        self._update = self._change_weights
        if self.replicas == 1 and not cudnn and config.precision != "float16":
            self._update = tf.function(self._change_weights, autograph=False, jit_compile=True)

    def states(self) -> dict[str, NDArray[Any]]:
        """Return all that the next step depends on beside the weights, by name."""
        found = {f"lstm/{i}": array for i, array in enumerate(self.model.state())}
        slots = (variable.numpy() for variable in self.optimizer.variables)
        return found | {f"optimizer/{i}": array for i, array in enumerate(slots)}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put weights back, and what ``states`` returned where the file has it.

        Raises CharlstmError if these are the states of another model or optimizer.
        """
        self.model.set_arrays(checkpoint.arrays)
        if checkpoint.resume is None:
            return
        found, expected = checkpoint.resume.arrays, self.states()
        kinds = [{k: (a.dtype, a.shape) for k, a in arrays.items()} for arrays in (found, expected)]
        if kinds[0] != kinds[1]:
            raise CharlstmError("the saved state is that of another model or optimizer")
        lstm = [found[name] for name in expected if name.startswith("lstm/")]
        self.model.set_state(lstm)
        for i, variable in enumerate(self.optimizer.variables):
            variable.assign(found[f"optimizer/{i}"])

    def calls(self, start: int, stop: int) -> list[range]:
        """Return which steps each call makes, of those from ``start`` until before ``stop``.

        Wherever it starts, calls begin at the same steps of an epoch.
        """
        firsts = [start, *(s for s in range(0, stop, self.steps_per_call) if s > start)]
        return [range(*pair) for pair in pairwise([*firsts, stop])] if start < stop else []

    def dataset(self, windows: Windows, calls: list[range]) -> Any:
        """Return the windows of some steps of an epoch, one call's after the other.

        Elements of shape (K, B, T + 1), of one replica's rows in lane order: the strategy hands
        them out in turn, so that each row is on the replica that has its lane.
        """
        rows = self.config.batch_size // self.replicas

        def pieces() -> Iterator[Ids]:
            for call in calls:
                found = np.stack([windows.window(step) for step in call])
                for start in range(0, self.config.batch_size, rows):
                    yield found[:, start : start + rows]

        shape = (None, rows, windows.sequence_length + 1)
        signature = tf.TensorSpec(shape, windows.ids.dtype)
        return self.strategy.distribute_datasets_from_function(
            lambda _: tf.data.Dataset.from_generator(pieces, output_signature=signature).prefetch(
                CALLS_IN_FLIGHT * self.replicas
            )
        )

    def _advance(self, windows: Any, key: Any) -> Any:
        """Make a step for each window of ids (K, B, T + 1); return the mean losses (K,) in nats.

        ``key`` is what the dropout masks follow from: ``dropout_key`` of the first step.
        """
        count = tf.shape(self.strategy.experimental_local_results(windows)[0])[0]

        def step(index: Any, losses: Any) -> Any:
            parts = self.strategy.run(self._replica_step, args=(windows, index, key))
            loss = self.strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)
            return index + 1, losses.write(index, loss)

        start = (0, tf.TensorArray(tf.float32, count, element_shape=()))
        _, losses = tf.while_loop(
            lambda index, _: index < count, step, start, parallel_iterations=1
        )
        return losses.stack()

    def _replica_step(self, windows: Any, index: Any, key: Any) -> Any:
        window = tf.cast(windows[index], tf.int32)
        targets = self.config.batch_size * self.config.sequence_length
        replica = tf.distribute.get_replica_context()
        key += [
            0,
            2**24 * tf.cast(index, tf.int64)
            + 2**8 * tf.cast(replica.replica_id_in_sync_group, tf.int64),
        ]
        # float16 has no numbers for small gradients: they are made of a larger loss.
        scale = self.optimizer.scale_loss(tf.ones(()))
        with tf.GradientTape() as tape:
            logits = self.model(window[:, :-1], dropout_seed=key)
            loss = tf.reduce_sum(nats(logits, window[:, 1:])) / targets
            scaled = loss * scale
        gradients = tape.gradient(scaled, self.model.trainable_variables)
        if self.config.clip_norm or self.config.precision == "float16":
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            # The optimizer sums over the replicas once more.
            gradients = [gradient / self.replicas for gradient in gradients]
        self._update(gradients, scale)
        return loss

    def _change_weights(self, gradients: Any, scale: Any) -> None:
        """Clip the gradients and apply them; ``scale`` is what the optimizer will divide by."""
        if self.config.clip_norm:
            limit = self.config.clip_norm * scale / self.replicas
            gradients, _ = tf.clip_by_global_norm(gradients, limit)
        self.optimizer.apply(gradients, self.model.trainable_variables)


def make_optimizer(config: TrainConfig) -> Any:
    """Return the optimizer that the options ask for; for float16, one that scales the loss.

    Adagrad's accumulator starts from 0, as published (Duchi et al. 2011); Keras's from 0.1.
    """
    if config.precision == "float16":
        return keras.optimizers.LossScaleOptimizer(
            make_optimizer(replace(config, precision="float32"))
        )
    settings: dict[str, Any] = {"learning_rate": config.learning_rate}
    if config.epsilon is not None:
        settings["epsilon"] = config.epsilon
    match config.optimizer:
        case "adam":
            return keras.optimizers.Adam(**settings)
        case "rmsprop":
            return keras.optimizers.RMSprop(**settings)
        case "adagrad":
            return keras.optimizers.Adagrad(initial_accumulator_value=0.0, **settings)
        case "sgd":
            return keras.optimizers.SGD(**settings)
    raise AssertionError(config.optimizer)


def dropout_key(seed: int, epoch: int, step: int) -> tuple[int, int]:
    """Return the key of a step's dropout masks: all of (seed, epoch, step), no two alike.

    Bits 0 to 7 of the second number are left for the layer, 8 to 23 for the replica.
    """
    return seed << 24 | epoch, step << 24


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

    ``parts`` are the ids for training and for validation (none of these: no validation).
    ``resume`` is what a training left that was stopped ``at`` its position; ``stopped`` tells that
    this one shall.
    """

    model: ModelConfig
    vocabulary: Vocabulary
    parts: tuple[Ids, Ids]
    run: RunFolder
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
        resume = Resume(asdict(replace(at, history_bytes=history_bytes)), self.trainer.states())
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
    saving = _Saving(trainer, job, windows)
    with _named_failures(config):
        trainer.advance.get_concrete_function(
            trainer.dataset(windows, []).element_spec, tf.TensorSpec((2,), tf.int64)
        )
    if job.resume:
        job.run.cut_history(at.history_bytes)
    else:
        saving.save(at)
    clock = _Clock(at.seconds)
    while not finished(at, config, windows, job.run):
        started = clock.seconds()
        steps = windows.steps
        if config.max_steps:
            steps = min(steps, config.max_steps - (at.epoch - 1) * windows.steps)
        at = yield from _run_steps(saving, at, steps, clock)
        if at.step < steps:
            return
        time = clock.record(steps * windows.step_size, started)
        try:
            report = _finish_epoch(trainer, job, at.epoch, at.total / steps, time)
        except _Stopped:
            saving.save(replace(at, seconds=clock.seconds()))
            return
        at = Position(at.epoch + 1, 0, 0.0, at.smooth_loss, 0, clock.seconds())
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
    logged = clock.seconds()
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
            time = clock.record(log_every * saving.windows.step_size, logged)
            logged = time["seconds"]
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
    weights = sum(array.nbytes for array in trainer.model.arrays())
    states = sum(array.nbytes for array in trainer.states().values())
    ids = sum(part.nbytes for part in job.parts)
    epochs = trainer.config.epochs
    kept = min(epochs, (trainer.config.keep or epochs) + 1)  # and the best
    return (kept + 1) * weights + states + ids


def memory(trainer: Trainer, job: Job, device: Device) -> int:
    """Return about how many bytes a training needs at most; on a GPU, of the GPU's memory.

    On a CPU, weights and the optimizer's slots are there four times while they are saved.
    """
    weights = sum(array.nbytes for array in trainer.model.arrays())
    states = sum(array.nbytes for array in trainer.states().values())
    units = job.model.layers * job.model.units * NUMBERS_PER_UNIT
    characters = trainer.config.batch_size * trainer.config.sequence_length
    step = 4 * characters * (units + 2 * len(job.vocabulary))
    if device.cudnn:
        return 2 * weights + states + step
    return OF_TENSORFLOW + 4 * (weights + states) + step


def position(checkpoint: Checkpoint, run: RunFolder) -> Position:
    """Return where the training was that left a file; of an epoch's file, behind that epoch.

    Raises CharlstmError if the file says nothing that could be true.
    """
    if checkpoint.resume is None:
        epoch, loss = checkpoint.epoch, checkpoint.metrics.get("train_loss")
        smooth_loss = loss if isinstance(loss, float) else 0.0
        return Position(epoch + 1, 0, 0.0, smooth_loss, run.history_until(epoch), 0.0)
    found = checkpoint.resume.position
    for item in fields(Position):
        value: Any = found.get(item.name)
        if type(value) is not item.type or not 0 <= value < math.inf:
            raise CharlstmError(f"the saved position has no {item.name} that could be true")
    return Position(**{item.name: found[item.name] for item in fields(Position)})


def finished(at: Position, config: TrainConfig, windows: Windows, run: RunFolder) -> bool:
    """Tell whether nothing is left to train from a position on."""
    done = (at.epoch - 1) * windows.steps
    at_the_end = at.epoch > config.epochs or done >= (config.max_steps or math.inf)
    return at.step == 0 and (at_the_end or out_of_patience(config, run))


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
    calls = trainer.calls(at.step, steps)
    elements = iter(trainer.dataset(saving.windows, calls))
    for call in calls:
        key = tf.constant(dropout_key(trainer.config.seed, at.epoch, call.start + 1), tf.int64)
        with _named_failures(trainer.config):
            pending.append((call.start + 1, trainer.advance(next(elements), key)))
        wait = call in {calls[0], calls[-1]} or saving.due()
        while len(pending) > (0 if wait else CALLS_IN_FLIGHT):
            first, losses = pending.popleft()
            with _named_failures(trainer.config):
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
        with _named_failures(trainer.config):
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


def make_trainer(
    model: ModelConfig, config: TrainConfig, vocab_size: int, device: Device
) -> Trainer:
    """Build a trainer on a device.

    Raises CharlstmError if the device has too little memory.
    """
    with _named_failures(config):
        return Trainer(model, config, vocab_size, cudnn=device.cudnn)


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


@contextlib.contextmanager
def _named_failures(config: TrainConfig) -> Iterator[None]:
    """Turn what a user can put right on the device into one line."""
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError):
        raise CharlstmError(
            "out of memory on the device; reduce --batch-size "
            f"(now {config.batch_size}), --sequence-length (now {config.sequence_length}), "
            "--units or --layers"
        ) from None
