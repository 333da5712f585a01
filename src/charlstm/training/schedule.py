"""The learning rate of each step: a function of where the step is, and of nothing else."""

import math
from dataclasses import dataclass

from charlstm.config import TrainConfig

COSINE_END = 0.02  # of the learning rate, at the last step


@dataclass(frozen=True)
class Schedule:
    """The schedule that the options ask for, where an epoch has so many steps."""

    config: TrainConfig
    steps: int

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step; both count from 1.

        It rises linearly over the first ``warmup`` steps, whatever the schedule. cosine then falls
        to COSINE_END at the last step, as half a period (Loshchilov and Hutter 2017), and stays
        there. exponential is multiplied by ``decay`` at the start of each epoch after
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
    """Return how many steps a training makes of epochs of so many."""
    return _limited(config, config.epochs * steps)


def _limited(config: TrainConfig, steps: int) -> int:
    return min(steps, config.max_steps or steps)
