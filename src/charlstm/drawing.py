"""Draw ids from logits: filters, the draw and its random numbers. Knows no model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from charlstm.inference import DrawOptions
from charlstm.network.backend import tf


@dataclass(frozen=True)
class Filters:
    """Limits on the ids that can be drawn, applied one after another.

    ``top_k``: keep the k most likely ids. ``top_p``: keep the smallest set of most likely ids
    whose total probability reaches this fraction. ``min_p``: keep ids with at least this
    probability, relative to the most likely id. Among equals, the lower id ranks as more likely.
    Unless ``allow_unknown``, the id that stands for several characters, if there is one, is never
    drawn; ``draw`` does not know it, so the sampler excludes it first.
    """

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    allow_unknown: bool = False

    def apply(self, weights: Any) -> Any:
        """Return ``weights`` (B, V) with excluded ids set to 0; the maximum of a row must be 1.

        Filters are constants when the loop is traced, so filters that are not set cost nothing.
        """
        size = weights.shape[-1]
        count: Any = size if self.top_k is None else min(self.top_k, size)
        # A top_p of 1 excludes nothing, not even weights too small to change the sum.
        share = None if self.top_p == 1 else self.top_p
        if count < size or share is not None:
            falling = tf.sort(weights, -1, "DESCENDING")[:, :count]
            least = falling[:, -1:]
            if share is not None:
                before = tf.cumsum(falling, -1, exclusive=True)
                reached = share * tf.reduce_sum(falling, -1, keepdims=True)
                count = tf.reduce_sum(tf.cast(before < reached, tf.int32), -1, keepdims=True)
                count = tf.maximum(count, 1)  # a tiny share can round to 0
                least = tf.gather(falling, count - 1, batch_dims=1)
            # Ranking equal weights by position costs less than sorting weights with their ids.
            above, equal = weights > least, weights == least
            room = count - tf.reduce_sum(tf.cast(above, tf.int32), -1, keepdims=True)
            first = tf.cumsum(tf.cast(equal, tf.int32), -1) <= room
            weights = tf.where(above | (equal & first), weights, 0)
        return tf.where(weights >= self.min_p, weights, 0) if self.min_p else weights


def filters_of(options: DrawOptions) -> Filters:
    """Return the filters that the options ask for."""
    return Filters(options.top_k, options.top_p, options.min_p, options.allow_unknown)


def draw(logits: Any, numbers: Any, temperature: Any, filters: Filters | None = None) -> Any:
    """Draw an id for each row of logits (B, V), using uniform numbers in [0, 1), shape (B,).

    The id is the first, in vocabulary order, whose cumulative probability exceeds the number. At
    temperature 0 it is the most likely id, the first among equals. Sums are in float64, so that
    devices that round differently still draw the same id.
    """
    logits = tf.cast(logits, tf.float64)
    temperature = tf.convert_to_tensor(temperature, tf.float64)
    divisor = tf.where(temperature > 0, temperature, 1)
    weights = tf.exp((logits - tf.reduce_max(logits, -1, keepdims=True)) / divisor)
    if filters:
        weights = filters.apply(weights)
    # A compiled cumsum can grow by rounding where 0 is added, so weights of 0 are masked.
    cumulative = tf.where(weights > 0, tf.cumsum(weights, axis=-1), 0)
    above = cumulative > numbers[:, None] * tf.reduce_max(cumulative, -1, keepdims=True)
    drawn = tf.argmax(above, -1, output_type=tf.int32)
    return tf.where(temperature > 0, drawn, tf.argmax(logits, -1, output_type=tf.int32))


def uniforms(seed: int, stream: int) -> np.random.Generator:
    """Return the generator of a stream; its t-th ``random()`` decides character t."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
