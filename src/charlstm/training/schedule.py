"""The learning rate of each step: a function of the options, the epoch and the step alone."""

import math
from dataclasses import dataclass

from charlstm.config import TrainConfig

COSINE_END = 0.02  # fraction of the learning rate at the last step


@dataclass(frozen=True)
class Schedule:
    """The schedule that the options ask for; an epoch has ``steps`` steps."""

    config: TrainConfig
    steps: int

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step; both count from 1.

        With any schedule, the rate rises linearly over the first ``warmup`` steps. cosine then
        falls over half a period to COSINE_END at the last step (Loshchilov and Hutter 2017), and
        stays there. exponential multiplies the rate by ``decay`` at the start of each epoch after
        ``decay_after``.
        """
        config, count = self.config, (epoch - 1) * self.steps + step
        rate = config.learning_rate * min(1, count / max(config.warmup, 1))
        match config.schedule:
            case "cosine":
                epochs = config.schedule_epochs or config.epochs
                whole = max(_limited(config, epochs * self.steps) - config.warmup, 1)
                done = min(max(count - config.warmup, 0) / whole, 1)
                rate *= COSINE_END + (1 - COSINE_END) * (1 + math.cos(math.pi * done)) / 2
            case "exponential":
                rate *= config.decay ** max(epoch - config.decay_after, 0)
        return rate


def total_steps(config: TrainConfig, steps: int) -> int:
    """Return the number of steps of a training whose epochs have ``steps`` steps."""
    return _limited(config, config.epochs * steps)


def _limited(config: TrainConfig, steps: int) -> int:
    return min(steps, config.max_steps or steps)
