"""Dynamic evaluation: a model that keeps learning while it reads.

Krause, Kahembwe, Murray and Renals 2018, "Dynamic evaluation of neural sequence models", with the
mean square of the gradients gathered while reading, which needs no pass over the training text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.evaluation import Lanes, into_lanes, nats, predict_lanes
from charlstm.inference import AdaptOptions
from charlstm.network.backend import keras, tf
from charlstm.network.device import memory_errors, select_device
from charlstm.network.model import CharacterModel, build_model, likeliest
from charlstm.run.weights import Checkpoint

MEMORY = 0.99  # of the mean square, per segment
EPSILON = 1e-5  # of its root: a weight whose gradients were all 0 stays as it is


class Adaptation:
    """Makes a step of the weights after each segment, once the segment has been predicted.

    With the gradient g of a segment's mean loss, the mean square M of a weight and its first value
    W0: M = 0.99 M + 0.01 g^2, then W = W - rate g / (sqrt(M) + epsilon) + decay (W0 - W). At first,
    M is divided by 1 - 0.99^n after n segments (Kingma and Ba 2015), since it starts from 0.
    """

    def __init__(self, model: CharacterModel, options: AdaptOptions) -> None:
        self._model = model
        self._options = options
        self._first = [tf.identity(weight) for weight in model.trainable_variables]
        self._squares = [
            keras.Variable(np.zeros(weight.shape, np.float32), trainable=False)
            for weight in model.trainable_variables
        ]
        self._segments = keras.Variable(0.0, trainable=False)
        self.predict = tf.function(self._predict, autograph=False)
        self._change = tf.function(self._change_weights, autograph=False, jit_compile=True)

    def _predict(self, window: Any, counted: Any, guesses: int) -> Any:
        """Return nats (B, T), probabilities and ids of the likeliest (B, T, K); then learn.

        ``window`` is (B, T + 1); positions at which ``counted`` (B, T) is 0 are not learned from.
        """
        window, counted = tf.cast(window, tf.int32), tf.cast(counted, tf.float32)
        with tf.GradientTape() as tape:
            logits = self._model(window[:, :-1])
            losses = nats(logits, window[:, 1:])
            loss = tf.reduce_sum(counted * losses) / tf.reduce_sum(counted)
        results = losses, *likeliest(logits, guesses)
        gradients = tape.gradient(loss, self._model.trainable_variables)
        with tf.control_dependencies(results):
            self._change(gradients)
        return results

    def _change_weights(self, gradients: list[Any]) -> None:
        rate, decay = self._options.adapt_rate, self._options.adapt_decay
        self._segments.assign(self._segments + 1)
        known = 1 - MEMORY**self._segments
        weights = self._model.trainable_variables
        for weight, first, square, g in zip(
            weights, self._first, self._squares, gradients, strict=True
        ):
            square.assign(MEMORY * square + (1 - MEMORY) * g * g)
            step = rate * g / (tf.sqrt(square / known) + EPSILON)
            weight.assign(weight - step + decay * (first - weight))


class Learner:
    """A model that learns from one text after another, each read in one lane from a zero state."""

    def __init__(self, checkpoint: Checkpoint, options: AdaptOptions, device: str = "auto") -> None:
        on_gpu = select_device(device).on_gpu
        self._checkpoint = checkpoint
        self._segment = options.adapt_segment
        size = len(checkpoint.vocabulary)
        self._model = build_model(checkpoint.model, size, batch_size=1, on_gpu=on_gpu)
        self._model.set_arrays(checkpoint.weights)
        self._predict = Adaptation(self._model, options).predict

    def learn(
        self, ids: NDArray[np.int32], tick: Callable[[int], object] = lambda _: None
    ) -> Checkpoint:
        """Read a text of at least two ids, (N,); return the model after it."""
        typed = ids.astype(self._checkpoint.vocabulary.id_dtype)
        groups: list[Lanes] = [*into_lanes(typed, 1).groups]
        with memory_errors("{adapt_segment}"):
            for prediction in predict_lanes(
                self._model, groups, sequence_length=self._segment, predict=self._predict
            ):
                tick(sum(count for _, _, count in prediction.spans))
        return replace(self._checkpoint, weights=self._model.arrays())
