"""The moving average of a model's weights (Polyak and Juditsky 1992). Knows no training step."""

from collections.abc import Sequence
from typing import Any

from charlstm.network.backend import keras, tf


class Average:
    """The average of ``weights``, which are Keras variables; decay 0 keeps none.

    Create it in the scope of the strategy.
    """

    def __init__(self, weights: Sequence[Any], decay: float) -> None:
        self._weights = weights if decay else []
        self._decay = decay
        self.variables = [
            keras.Variable(weight, trainable=False, aggregation="only_first_replica")
            for weight in self._weights
        ]

    def update(self, steps: Any) -> None:
        """Take in the weights after this number of optimizer steps, a scalar tensor.

        Early on, this is an average of about the last tenth of the steps, so that the initial
        weights are soon forgotten.
        """
        # 0 steps: gradients overflowed in float16, and the first step was skipped.
        earlier = tf.maximum(tf.cast(steps, tf.float32) - 1, 0)
        keep = tf.minimum(self._decay, earlier / (earlier + 9))
        for average, weight in zip(self.variables, self._weights, strict=True):
            average.assign(keep * average + (1 - keep) * weight)
