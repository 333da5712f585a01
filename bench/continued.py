"""Continue a training of the Keras script of 2016 with the preset keras-2016.

Both then start from the same weights, accumulators and recurrent states, read the same batches, and
differ in their dropout masks alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import ModelConfig, Weights
from charlstm.config import TrainConfig
from charlstm.options import record_of
from charlstm.presets import read_config
from charlstm.text.collection import Collection, collect
from charlstm.text.encoding import encode
from charlstm.text.windows import Windows
from charlstm.training.schedule import Schedule
from charlstm.training.step import Trainer, dropout_key

Array = NDArray[np.float32]

LAYERS = 3
PARTS = 12  # arrays of a layer: kernel, recurrent kernel and bias of each gate
ORDER = (0, 2, 1, 3)  # of the gates in Keras now: input, forget, cell, output; cell second in 2016


def continued(text: Path, folder: Path, seed: int, steps: int) -> tuple[list[float], list[float]]:
    """Return the losses of so many steps after the plateau: of that script, and of the preset.

    ``folder`` has what keras_2016.py wrote for this seed.
    """
    theirs = json.loads((folder / f"{seed}.json").read_text())
    left = theirs["left"]
    settings = read_config("keras-2016", (ModelConfig, TrainConfig))
    model, config = record_of(ModelConfig, settings), record_of(TrainConfig, settings)
    corpus = encode(Collection(collect([str(text)])), folder / "corpus.ids")
    trainer = Trainer(model, config, len(corpus.vocabulary), on_gpu=False)
    with np.load(folder / f"{seed}.npz") as arrays:
        restore(trainer, arrays)
    windows = Windows(corpus.ids, config.batch_size, config.sequence_length)
    calls, schedule = trainer.calls(left, left + steps), Schedule(config, windows.steps)
    ours: list[float] = []
    for call, element in zip(calls, trainer.dataset(windows, calls), strict=True):
        rates = np.array([schedule.rate(1, step + 1) for step in call], np.float32)
        key = np.array(dropout_key(seed, 1, call.start + 1))
        ours += trainer.advance(element, rates, key).numpy().tolist()
    return theirs["losses"][left : left + steps], ours


def restore(trainer: Trainer, arrays: Any) -> None:
    """Set weights, accumulators and recurrent states from the arrays of keras_2016.py."""
    states = trainer.states()
    accumulators = joined(arrays, "a")
    names = [name for name in states if name.startswith("optimizer/")][-len(accumulators) :]
    states |= dict(zip(names, accumulators, strict=True))
    recurrent = [arrays[f"{name}{layer}"] for layer in range(LAYERS) for name in "hc"]
    states |= {f"lstm/{number}": array for number, array in enumerate(recurrent)}
    trainer.restore(Weights.of(joined(arrays, "w")), states)


def joined(arrays: Any, kind: str) -> list[Array]:
    """Return the arrays of a kind, ``w`` or ``a``, with the gates of a layer side by side."""
    every: Sequence[Array] = [arrays[f"{kind}{i:02}"] for i in range(LAYERS * PARTS + 2)]
    result = []
    for layer in range(LAYERS):
        gates = every[layer * PARTS : (layer + 1) * PARTS]
        result += [np.concatenate([gates[3 * g + part] for g in ORDER], -1) for part in range(3)]
    return [*result, *every[LAYERS * PARTS :]]
