"""The memory and disk space that a training needs, in bytes."""

from charlstm.config import TrainConfig
from charlstm.training.loop import Training

# Memory of a process on a CPU without the model, mostly TensorFlow's, in bytes: measured.
OF_TENSORFLOW = 800_000_000


def disk(training: Training) -> int:
    """Return the approximate size of the run folder at the end, in bytes."""
    weights, states = training.trainer.sizes()
    return (_kept_epochs(training.config) + 1) * weights + states + training.corpus.ids.nbytes


def _kept_epochs(config: TrainConfig) -> int:
    """Return how many epochs have a weights file at the end: the newest ones and the best."""
    return min(config.epochs, (config.keep or config.epochs) + 1)


def memory(training: Training) -> int:
    """Return the approximate peak memory in bytes: of each GPU, or else of the process.

    On a CPU, four copies of the weights and the optimizer's slots exist during a save.
    """
    weights, states = training.trainer.sizes()
    model, on_gpu = training.model, training.device.on_gpu
    # Floats kept per character for the backward pass: measured.
    numbers = model.layers * model.units * (2 * model.kind.gates + 4)
    device = training.device
    groups = training.config.accumulate * (device.replicas if on_gpu else device.cluster.size)
    characters = training.windows.step_size // groups
    step = 4 * characters * (numbers + 2 * len(training.corpus.vocabulary))
    if on_gpu:
        return 2 * weights + states + step
    return OF_TENSORFLOW + 4 * (weights + states) + step
