"""The architecture of a model: its options, its cells, the names and shapes of its weights.

Imports neither TensorFlow nor numpy, so that commands can describe a weights file at once.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from charlstm.options import option

Item = TypeVar("Item")
Other = TypeVar("Other")

MAX_LAYERS = 255
USUAL = {"activation": "tanh", "recurrent_activation": "sigmoid"}  # if an option is None


@dataclass(frozen=True)
class CellKind:
    """A type of recurrent cell, as Keras implements it.

    ``keras_name`` is Keras's name for its layers in a weights file. The kernel concatenates
    ``gates`` gates, in Keras's order. ``bias_rows`` is () for a single bias, or (2,) for one bias
    of the input product and one of the recurrent product. ``states`` are h and, in an LSTM, c.
    ``activation`` is the option that chooses the activation of its gates, or of its units.
    """

    keras_name: str
    gates: int
    bias_rows: tuple[int, ...]
    states: tuple[str, ...]
    activation: str = "recurrent_activation"


CELLS = {
    "lstm": CellKind("lstm", 4, (), ("h", "c")),  # input, forget, cell, output
    "gru": CellKind("gru", 3, (2,), ("h",)),  # update, reset, new
    "rnn": CellKind("simple_rnn", 1, (), ("h",), "activation"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The options that define the shapes of the weights, and dropout."""

    layers: int = option(3, "Number of recurrent layers.", low=1, high=MAX_LAYERS, heading="Model")
    units: int = option(512, "Units per layer.", low=1)
    cell: str = option("lstm", "Type of recurrent cell.", choices=tuple(CELLS))
    activation: str | None = option(
        None, "Activation of {cell} rnn; by default, tanh.", choices=("tanh", "relu")
    )
    recurrent_activation: str | None = option(
        None,
        "Activation of the gates of {cell} lstm and gru; by default, sigmoid.",
        choices=("sigmoid", "hard_sigmoid"),
    )
    dropout: float = option(0.2, "Dropout rate after each layer.", low=0, high=1, open_ends="high")

    @property
    def kind(self) -> CellKind:
        """The type of its cells."""
        return CELLS[self.cell]

    @property
    def nonlinearity(self) -> str:
        """The activation of the gates, or that of an RNN's units."""
        name = self.kind.activation
        return getattr(self, name) or USUAL[name]

    def problem(self) -> tuple[str, str] | None:
        """Return the name of an option that the cell does not have, and a message; or None."""
        for name in USUAL.keys() - {self.kind.activation}:
            if value := getattr(self, name):
                cells = " or ".join(cell for cell, kind in CELLS.items() if kind.activation == name)
                return name, f"{value} needs an {cells} cell, not {self.cell}"
        return None


@dataclass(frozen=True)
class LayerWeights(Generic[Item]):
    """One item per weight of a recurrent layer: an array, a shape or a name.

    The arrays are kernel (V or U, nU), recurrent kernel (U, nU) and bias (nU) or (2, nU), for a
    cell with n gates.
    """

    kernel: Item
    recurrent: Item
    bias: Item


@dataclass(frozen=True)
class Weights(Generic[Item]):
    """One item per weight of a model, iterated over in the order of a weights file.

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
        """Make a record of items that are in the order of a weights file."""
        *rest, kernel, bias = items
        layers = (LayerWeights(*rest[first : first + 3]) for first in range(0, len(rest), 3))
        return Weights(tuple(layers), kernel, bias)

    def map(self, function: Callable[[Item], Other]) -> "Weights[Other]":
        """Apply a function to each item."""
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
