"""The compiled training step, under a distribution strategy; the only module that trains weights.

Knows no run, no epoch and no file.
"""

import contextlib
import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from charlstm.architecture import ModelConfig, Weights, parameters
from charlstm.config import TrainConfig
from charlstm.evaluation import nats
from charlstm.network.backend import tf
from charlstm.network.device import Device, memory_errors
from charlstm.network.initializers import initial_weights
from charlstm.network.model import CharacterModel, build_model
from charlstm.network.workers import Workers
from charlstm.run.weights import Array
from charlstm.text.windows import Windows
from charlstm.training.average import Average
from charlstm.training.batches import Calls, batches, planes
from charlstm.training.optimizer import make_optimizer, take_sums
from charlstm.training.state import Lanes, State

# One call of the compiled function makes several steps, because each call has an overhead of half a
# millisecond. Ctrl+C is answered only between calls, so a call has about this many floating-point
# operations: a twentieth of a second on a few cores or on one GPU.
CALL_FLOP = {"cpu": 1e10, "gpu": 1e12}
MOST_STEPS_PER_CALL = 32

# Calls in flight before the loop waits for the oldest one's losses: printing never stalls the
# device, and a loss that is not finite is noticed at most this many calls late.
CALLS_IN_FLIGHT = 2


class Trainer:
    """Model, optimizer and the compiled steps, built under the strategy in scope."""

    def __init__(
        self, model_config: ModelConfig, config: TrainConfig, vocab_size: int, *, on_gpu: bool
    ) -> None:
        self.config = config
        self.strategy = tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        self.workers = Workers(self.strategy)
        build = partial(
            build_model,
            model_config,
            vocab_size,
            batch_size=config.batch_size // (self.replicas * config.accumulate),
            on_gpu=on_gpu,
        )
        with self.strategy.scope():
            self.model = build(precision=config.precision)
            self.model.set_arrays(
                initial_weights(model_config, vocab_size, config.initializer, config.seed)
            )
            # Validate what an epoch file will hold, in float32, as a model loaded from it computes.
            other = config.average or config.precision in {"bfloat16", "float16"}
            self._saved = build() if other else self.model
            self.optimizer = make_optimizer(config)
            if self.replicas > 1:
                take_sums(self.optimizer)
            self.optimizer.build(self.model.trainable_variables)
            self._average = Average(self.model.trainable_variables, config.average)
            self._lanes = Lanes(self.model, config.accumulate)
            self._state = State(self._lanes, self.optimizer, self._average, self.workers)
        # Per character, a weight costs a multiplication and an addition forward, and twice that
        # backward: for the gradient of its input and for its own.
        flop = 6 * parameters(model_config, vocab_size) * config.batch_size * config.sequence_length
        enough = math.ceil(CALL_FLOP["gpu" if on_gpu else "cpu"] / flop)
        self.steps_per_call = min(enough, MOST_STEPS_PER_CALL)
        self.advance = tf.function(self._advance, autograph=False)
        # On one CPU, XLA halves the time of the optimizer: it passes over the weights only once.
        self._update = self._change_weights
        if self.replicas == 1 and not on_gpu and config.precision != "float16":
            self._update = tf.function(self._change_weights, autograph=False, jit_compile=True)

    def saved_model(self) -> CharacterModel:
        """Return a float32 model with the weights to validate and save at the end of an epoch.

        They are the average of the weights if there is one, or else the current weights.
        """
        if self._saved is not self.model:
            averages = [variable.numpy() for variable in self._average.variables]
            self._saved.set_arrays(averages or self.model.arrays())
        return self._saved

    def states(self) -> dict[str, Array]:
        """Return everything besides the weights that the next step depends on, by name."""
        return self._state.arrays()

    def sizes(self) -> tuple[int, int]:
        """Return the sizes of the weights and of the ``states``, in bytes."""
        weights = sum(4 * math.prod(weight.shape) for weight in self.model.trainable_variables)
        return weights, self._state.size()

    def reset_state(self) -> None:
        """Reset the recurrent state of all lanes to zeros."""
        self._lanes.reset()

    def restore(
        self, weights: Weights[Array] | None, states: Mapping[str, Array] | None = None
    ) -> None:
        """Restore weights, and what ``states`` returned; None leaves the initial ones.

        The workers of a cluster get those of the chief. Raises CharlstmError if the states belong
        to another model or optimizer.
        """
        if states is not None:
            self._state.restore(states)
        if weights is not None:
            self.model.set_arrays(weights)
        if self.workers.count > 1:
            self.model.set_arrays(map(self.workers.of_chief, self.model.arrays()))

    def calls(self, start: int, stop: int) -> Calls:
        """Split the steps from ``start`` to ``stop`` (exclusive) into calls."""
        return Calls(start, stop, self.steps_per_call)

    def dataset(self, windows: Windows, calls: Iterable[range]) -> Any:
        """Return the ``batches`` of these calls, for ``advance``."""
        return batches(windows, calls, self.strategy, CALLS_IN_FLIGHT)

    def trace(self, windows: Windows) -> Any:
        """Trace ``advance`` for an epoch's windows now, rather than at the first step."""
        rates, key = tf.TensorSpec((None,), tf.float32), tf.TensorSpec((2,), tf.int64)
        element = self.dataset(windows, self.calls(0, 0)).element_spec
        return self.advance.get_concrete_function(element, rates, key)

    def _advance(self, windows: Any, rates: Any, key: Any) -> Any:
        """Make a step for each of K ``batches``; return the mean losses (K,) in nats.

        ``rates`` (K,) are the learning rates. ``key`` is the ``dropout_key`` of the first step.
        """
        count = tf.shape(self.strategy.experimental_local_results(windows)[0])[0]

        def step(index: Any, losses: Any) -> Any:
            parts = self.strategy.run(self._replica_step, args=(windows, index, rates, key))
            loss = self.strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)
            return index + 1, losses.write(index, loss)

        start = (0, tf.TensorArray(tf.float32, count, element_shape=()))
        _, losses = tf.while_loop(
            lambda index, _: index < count, step, start, parallel_iterations=1
        )
        return losses.stack()

    def _replica_step(self, windows: Any, index: Any, rates: Any, key: Any) -> Any:
        window = tf.cast(windows[index], tf.int32)
        replica = tf.distribute.get_replica_context()
        first_group = self.config.accumulate * tf.cast(replica.replica_id_in_sync_group, tf.int64)
        key += [0, 2**24 * tf.cast(index, tf.int64) + 2**8 * first_group]
        # Small gradients underflow in float16, so they are computed from a scaled loss.
        scale = self.optimizer.scale_loss(tf.ones(()))
        compute = self._gradients if self.config.accumulate == 1 else self._accumulated_gradients
        loss, gradients = compute(window, key, scale)
        if self.replicas > 1:
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        self.optimizer.learning_rate.assign(rates[index])
        self._apply(gradients, scale)
        return loss

    def _gradients(self, window: Any, key: Any, scale: Any) -> tuple[Any, list[Any]]:
        """Return the loss of a group's window, and its gradients times ``scale``.

        The loss is the group's part of the mean over the whole batch.
        """
        targets = self.config.batch_size * self.config.sequence_length
        ids, resets = planes(window)
        with tf.GradientTape() as tape:
            logits = self.model(ids[:, :-1], dropout_seed=key, resets=resets)
            loss = tf.reduce_sum(nats(logits, ids[:, 1:])) / targets
            scaled = loss * scale
        return loss, tape.gradient(scaled, self.model.trainable_variables)

    def _accumulated_gradients(self, window: Any, key: Any, scale: Any) -> tuple[Any, list[Any]]:
        """Return the sums of ``_gradients`` over the groups of lanes, computed one by one."""
        groups = self.config.accumulate
        windows = tf.reshape(window, (groups, -1, *window.shape[1:]))

        def add(group: Any, loss: Any, gradients: Any) -> Any:
            self._lanes.load(group)
            more = [0, 2**8 * tf.cast(group, tf.int64)]
            part, parts = self._gradients(windows[group], key + more, scale)
            self._lanes.store(group)
            return group + 1, loss + part, [a + b for a, b in zip(gradients, parts, strict=True)]

        zeros = [tf.zeros(weight.shape) for weight in self.model.trainable_variables]
        _, loss, gradients = tf.while_loop(
            lambda group, *_: group < groups, add, (0, 0.0, zeros), parallel_iterations=1
        )
        return loss, gradients

    def _apply(self, gradients: Any, scale: Any) -> None:
        """Clip the gradients and apply them; the optimizer will divide them by ``scale``."""
        # XLA sums in one thread, so the norm is computed outside the compiled function, unless
        # ``clip_value`` changes the gradients inside.
        known = self.config.clip_norm and not self.config.clip_value
        self._update(gradients, tf.linalg.global_norm(gradients) if known else None, scale)

    def _change_weights(self, gradients: Any, norm: Any, scale: Any) -> None:
        if self.config.clip_value:
            limit = self.config.clip_value * scale
            # Keep values that are not finite: they make the optimizer skip a step, or end training.
            gradients = [
                tf.where(tf.math.is_finite(g), tf.clip_by_value(g, -limit, limit), g)
                for g in gradients
            ]
        if self.config.clip_norm:
            limit = self.config.clip_norm * scale
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        self._average.update(self.optimizer.iterations)


def dropout_key(seed: int, epoch: int, step: int) -> tuple[int, int]:
    """Return the key of a step's dropout masks, unique for each (seed, epoch, step).

    Bits 0 to 7 of the second number are reserved for the layer, 8 to 23 for the group of lanes.
    """
    return seed << 24 | epoch, step << 24


def make_trainer(
    model: ModelConfig, config: TrainConfig, vocab_size: int, device: Device
) -> Trainer:
    """Build a trainer on a device.

    Raises CharlstmError if the device runs out of memory.
    """
    with device_errors(config), device.strategy.scope():
        return Trainer(model, config, vocab_size, on_gpu=device.on_gpu)


def device_errors(config: TrainConfig) -> contextlib.AbstractContextManager[None]:
    """Turn device errors that a user can fix into one-line errors."""
    return memory_errors(
        f"{{batch_size}} (now {config.batch_size}), {{sequence_length}} "
        f"(now {config.sequence_length}), {{units}} or {{layers}}, or raise {{accumulate}} "
        f"(now {config.accumulate})"
    )
