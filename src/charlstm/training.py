"""The training loop: compiled steps under a distribution strategy; yields reports.

The only room that changes weights. Knows no command line and no terminal.
"""

import contextlib
import math
import platform
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from charlstm import __version__
from charlstm.backend import Device, keras, tf
from charlstm.batches import Windows
from charlstm.checkpoint import Checkpoint, parameters
from charlstm.config import ModelConfig, TrainConfig
from charlstm.corpus import Ids
from charlstm.errors import CharlstmError
from charlstm.evaluation import evaluate, nats
from charlstm.model import build_model
from charlstm.run_folder import NewRun
from charlstm.vocabulary import Vocabulary

# A call of the compiled function makes several steps, so that what a call costs, half a
# millisecond, is shared: as many steps as this much arithmetic is enough for (a twentieth of a
# second of a few cores, of one GPU), since Ctrl+C is only answered between calls.
CALL_FLOP = {"cpu": 1e10, "gpu": 1e12}
MOST_STEPS_PER_CALL = 32

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

    def dataset(self, windows: Windows, steps: int) -> Any:
        """Return the windows of the first steps of an epoch, one call's after the other.

        Elements of shape (K, B, T + 1), of one replica's rows in lane order: the strategy hands
        them out in turn, so that each row is on the replica that has its lane.
        """
        rows = self.config.batch_size // self.replicas

        def pieces() -> Iterator[Ids]:
            for first in range(0, steps, self.steps_per_call):
                call = range(first, min(first + self.steps_per_call, steps))
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
class Job:
    """What is trained on and where it goes.

    ``parts`` are the ids for training and for validation (none of these: no validation).
    """

    model: ModelConfig
    vocabulary: Vocabulary
    parts: tuple[Ids, Ids]
    run: NewRun


def train(trainer: Trainer, job: Job) -> Iterator[StepReport | EpochReport]:
    """Train, write an epoch file after each epoch, keep the history, and report.

    The run is placed when the first step is done: what fails before that leaves no trace.

    Raises CharlstmError if the loss is not finite or the device has too little memory.
    """
    config = trainer.config
    windows = Windows(job.parts[0], config.batch_size, config.sequence_length)
    smooth_loss = math.log(len(job.vocabulary))  # of a model that knows nothing
    steps_left = config.max_steps or config.epochs * windows.steps
    with _named_failures(config):
        trainer.advance.get_concrete_function(
            trainer.dataset(windows, 0).element_spec, tf.TensorSpec((2,), tf.int64)
        )
    clock = _Clock()
    for epoch in range(1, config.epochs + 1):
        steps = min(windows.steps, steps_left)
        started, total = clock.seconds(), 0.0
        logged = started
        trainer.model.reset_state()
        for step, loss in _losses(trainer, windows, epoch, steps):
            if not math.isfinite(loss):
                raise _not_finite(epoch, step)
            if epoch == step == 1:
                job.run.place()
            total += loss
            smooth_loss = 0.999 * smooth_loss + 0.001 * loss
            if step % config.log_every == 0:
                time = clock.record(config.log_every * windows.step_size, logged)
                logged = time["seconds"]
                losses = {"loss": loss, "smooth_loss": smooth_loss}
                job.run.append_history(
                    {"kind": "step", "epoch": epoch, "step": step, **losses, "clock": time}
                )
            yield StepReport(epoch, step, steps, loss, smooth_loss)
        time = clock.record(steps * windows.step_size, started)
        yield _finish_epoch(trainer, job, epoch, total / steps, time)
        steps_left -= steps
        if not steps_left:
            return


def _losses(
    trainer: Trainer, windows: Windows, epoch: int, steps: int
) -> Iterator[tuple[int, float]]:
    """Run the first steps of an epoch; yield the number of each, from 1, and its loss.

    Losses are fetched some calls late, since a fetch waits for the device; but for the first.
    """
    pending: deque[tuple[int, Any]] = deque()
    calls = iter(trainer.dataset(windows, steps))
    for first in range(1, steps + 1, trainer.steps_per_call):
        key = tf.constant(dropout_key(trainer.config.seed, epoch, first), tf.int64)
        with _named_failures(trainer.config):
            pending.append((first, trainer.advance(next(calls), key)))
        last = first + trainer.steps_per_call > steps
        while len(pending) > (0 if last or first == 1 else CALLS_IN_FLIGHT):
            oldest, losses = pending.popleft()
            with _named_failures(trainer.config):
                values = losses.numpy().tolist()
            yield from enumerate(values, oldest)


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
                trainer.exact, job.parts[1], sequence_length=trainer.config.sequence_length
            )
        valid_loss = found.nats_per_char
    if not all(np.isfinite(part).all() for part in (valid_loss or 0, *arrays)):
        raise _not_finite(epoch, None)
    losses = {"train_loss": train_loss, "valid_loss": valid_loss}
    path = job.run.write_epoch(
        Checkpoint(
            epoch=epoch,
            model=job.model,
            vocabulary=job.vocabulary,
            arrays=arrays,
            metrics=losses,
            training=asdict(trainer.config),
            versions=versions(),
            clock=time,
        )
    )
    line = {"kind": "epoch", "epoch": epoch, **losses, "clock": time}
    job.run.append_history(line, sync=True)
    return EpochReport(epoch, train_loss, valid_loss, time["characters_per_second"], path)


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {
        "charlstm": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }


def make_trainer(
    model: ModelConfig, config: TrainConfig, vocab_size: int, device: Device
) -> Trainer:
    """Build a trainer on a device.

    Raises CharlstmError if the device has too little memory.
    """
    with _named_failures(config):
        return Trainer(model, config, vocab_size, cudnn=device.cudnn)


class _Clock:
    """What tells time, kept apart from all that a repeated run must repeat."""

    def __init__(self) -> None:
        self._start = monotonic()

    def seconds(self) -> float:
        return round(monotonic() - self._start, 3)

    def record(self, characters: int, since: float) -> dict[str, Any]:
        now = self.seconds()
        return {
            "seconds": now,
            "characters_per_second": round(characters / max(now - since, 1e-3), 1),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _not_finite(epoch: int, step: int | None) -> CharlstmError:
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
