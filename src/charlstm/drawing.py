"""One draw from a distribution: filters, the draw itself, the random numbers. Knows no model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from charlstm.network.backend import tf


@dataclass(frozen=True)
class Filters:
    """What of a distribution can be drawn; each works on what the one before it left.

    ``top_k``: so many of the likeliest characters. ``top_p``: the fewest of the likeliest whose
    mass reaches this share. ``min_p``: those at least so likely, relative to the likeliest. Of
    equally likely ones, the lower id is the likelier.
    """

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def apply(self, weights: Any) -> Any:
        """Return weights (B, V), of which the largest of a row is 1, with 0 for what is left out.

        Filters are known when the loop is traced: those that are not set cost nothing.
        """
        size = weights.shape[-1]
        count: Any = size if self.top_k is None else min(self.top_k, size)
        # At 1 nothing goes, not even what is too small to change a sum.
        share = None if self.top_p == 1 else self.top_p
        if count < size or share is not None:
            falling = tf.sort(weights, -1, "DESCENDING")[:, :count]
            least = falling[:, -1:]
            if share is not None:
                before = tf.cumsum(falling, -1, exclusive=True)
                reached = share * tf.reduce_sum(falling, -1, keepdims=True)
                count = tf.reduce_sum(tf.cast(before < reached, tf.int32), -1, keepdims=True)
                count = tf.maximum(count, 1)  # the tiniest share can be rounded to 0
                least = tf.gather(falling, count - 1, batch_dims=1)
            # To find their places among equals costs less than to sort them with their ids.
            above, equal = weights > least, weights == least
            room = count - tf.reduce_sum(tf.cast(above, tf.int32), -1, keepdims=True)
            first = tf.cumsum(tf.cast(equal, tf.int32), -1) <= room
            weights = tf.where(above | (equal & first), weights, 0)
        return tf.where(weights >= self.min_p, weights, 0) if self.min_p else weights


def draw(logits: Any, numbers: Any, temperature: Any, filters: Filters | None = None) -> Any:
    """Return an id for each row of logits (B, V) from its uniform number in [0, 1), shape (B,).

    The id is the first, in vocabulary order, whose cumulative probability exceeds the number; at
    temperature 0 it is the likeliest, the first of equals. In float64, so that the sums are the
    same to the last id that matters on every device.
    """
    logits = tf.cast(logits, tf.float64)
    temperature = tf.convert_to_tensor(temperature, tf.float64)
    divisor = tf.where(temperature > 0, temperature, 1)
    weights = tf.exp((logits - tf.reduce_max(logits, -1, keepdims=True)) / divisor)
    if filters:
        weights = filters.apply(weights)
    # Sums may round differently where nothing is added: what weighs 0 is left out by name.
    cumulative = tf.where(weights > 0, tf.cumsum(weights, axis=-1), 0)
    above = cumulative > numbers[:, None] * tf.reduce_max(cumulative, -1, keepdims=True)
    drawn = tf.argmax(above, -1, output_type=tf.int32)
    return tf.where(temperature > 0, drawn, tf.argmax(logits, -1, output_type=tf.int32))


def uniforms(seed: int, stream: int) -> np.random.Generator:
    """Return the numbers of one stream: the t-th draw of ``random()`` belongs to character t."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
