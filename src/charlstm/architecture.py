"""What a model is made of: its options, its cells, the names and shapes of its weights.

Light: no TensorFlow and no numpy, so that a weights file can be described without them.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from charlstm.options import option

Item = TypeVar("Item")
Other = TypeVar("Other")

MAX_LAYERS = 255


@dataclass(frozen=True)
class CellKind:
    """A kind of recurrent cell, as Keras has it.

    ``keras_name`` is what Keras calls its layers in a weights file. ``gates`` lie side by side in
    a kernel, in Keras's order; ``bias_rows`` is () for one bias, (2,) for one of the input's and
    one of the recurrent product. ``states`` are h and, of an LSTM, c.
    """

    keras_name: str
    gates: int
    bias_rows: tuple[int, ...]
    states: tuple[str, ...]


CELLS = {
    "lstm": CellKind("lstm", 4, (), ("h", "c")),  # input, forget, cell, output
    "gru": CellKind("gru", 3, (2,), ("h",)),  # update, reset, new
    "rnn": CellKind("simple_rnn", 1, (), ("h",)),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: what the weights must fit."""

    cell: str = option("lstm", "What the layers consist of.", choices=tuple(CELLS))
    activation: str | None = option(
        None, "Of cells of {cell} rnn; by default, tanh.", choices=("tanh", "relu")
    )
    units: int = option(512, "Units of each layer.", low=1)
    layers: int = option(3, "Recurrent layers.", low=1, high=MAX_LAYERS)
    dropout: float = option(
        0.2, "Share of each layer's outputs dropped in training.", low=0, high=1, open_ends="high"
    )

    @property
    def kind(self) -> CellKind:
        """What its cells are made of."""
        return CELLS[self.cell]

    def problem(self) -> str:
        """Say in words what does not go together; empty if all does."""
        if self.activation and self.cell != "rnn":
            return f"activation {self.activation} is for cells of kind rnn, not {self.cell}"
        return ""


@dataclass(frozen=True)
class LayerWeights(Generic[Item]):
    """One thing for each weight of a recurrent layer: an array, a shape, a name.

    The arrays are kernel (V or U, nU), recurrent kernel (U, nU) and bias (nU) or (2, nU), where n
    gates lie side by side.
    """

    kernel: Item
    recurrent: Item
    bias: Item


@dataclass(frozen=True)
class Weights(Generic[Item]):
    """One thing for each weight of a model; iterated over in the order of a weights file.

    The arrays are those of the layers, then dense_kernel (U, V) and dense_bias (V).
    """

    layers: tuple[LayerWeights[Item], ...]
    dense_kernel: Item
    dense_bias: Item

    def __iter__(self) -> Iterator[Item]:
        for layer in self.layers:
            yield from (layer.kernel, layer.recurrent, layer.bias)
        yield from (self.dense_kernel, self.dense_bias)

    @staticmethod
    def of(items: Iterable[Other]) -> "Weights[Other]":
        """Return the record of items in the order of a weights file."""
        *rest, kernel, bias = items
        layers = (LayerWeights(*rest[first : first + 3]) for first in range(0, len(rest), 3))
        return Weights(tuple(layers), kernel, bias)

    def map(self, function: Callable[[Item], Other]) -> "Weights[Other]":
        """Return the record of what a function makes of each item."""
        return Weights.of(map(function, self))

    def named(self) -> dict[str, Item]:
        """Return the items by name, in their order: kernel_1, recurrent_1, bias_1, kernel_2 ..."""
        names = [
            f"{name}_{number}"
            for number in range(1, len(self.layers) + 1)
            for name in ("kernel", "recurrent", "bias")
        ]
        return dict(zip([*names, "dense_kernel", "dense_bias"], self, strict=True))


def shapes(model: ModelConfig, vocab_size: int) -> Weights[tuple[int, ...]]:
    """Return the shape of each weight of a model."""
    width = model.kind.gates * model.units
    bias = (*model.kind.bias_rows, width)
    inputs = [vocab_size, *[model.units] * (model.layers - 1)]
    layers = (LayerWeights((size, width), (model.units, width), bias) for size in inputs)
    return Weights(tuple(layers), (model.units, vocab_size), (vocab_size,))


def parameters(model: ModelConfig, vocab_size: int) -> int:
    """Return the number of weights of a model."""
    return sum(map(math.prod, shapes(model, vocab_size)))


def state_names(model: ModelConfig) -> list[str]:
    """Return the names of the states, in order: h_1, c_1, h_2 and so on."""
    return [
        f"{state}_{number}" for number in range(1, model.layers + 1) for state in model.kind.states
    ]
