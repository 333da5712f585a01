"""How much memory and disk a training needs, in bytes."""

from charlstm.config import TrainConfig
from charlstm.training.loop import Training

# What TensorFlow and all else of a process need on a CPU, in bytes: measured.
OF_TENSORFLOW = 800_000_000


def disk(training: Training) -> int:
    """Return about how many bytes the run folder will have at the end."""
    weights, states = training.trainer.sizes()
    return (_kept_epochs(training.config) + 1) * weights + states + training.corpus.ids.nbytes


def _kept_epochs(config: TrainConfig) -> int:
    """Return how many epochs have a weights file at the end: the newest, and the best."""
    return min(config.epochs, (config.keep or config.epochs) + 1)


def memory(training: Training) -> int:
    """Return about how many bytes a training needs at most; on a GPU, of the GPU's memory.

    On a CPU, weights and the optimizer's slots are there four times while they are saved.
    """
    weights, states = training.trainer.sizes()
    model = training.model
    # Of each unit and character, until its gradient is computed: measured.
    numbers = model.layers * model.units * (2 * model.kind.gates + 4)
    step = 4 * training.windows.step_size * (numbers + 2 * len(training.corpus.vocabulary))
    if training.device.on_gpu:
        return 2 * weights + states + step
    return OF_TENSORFLOW + 4 * (weights + states) + step
