"""The format litert: a flatbuffer with built-in operators and static shapes, for one character.

It is written operator by operator: converters reorder inputs and outputs, and split a graph
compiled by XLA into slower operators.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from charlstm.export.artifact import (
    MEMBER,
    Artifact,
    Step,
    check_size,
    input_names,
    output_names,
)
from charlstm.export.flatbuffer import OPS, Graph
from charlstm.network.backend import quiet_stderr
from charlstm.run.weights import Array

WINDOW = 1  # characters per step: the only shape of the graph


def write(artifact: Artifact, path: Path) -> None:
    """Write the file and append a zip with the JSON description, as usual for the format."""
    check_size(artifact, "litert")
    graph, model = Graph(), artifact.model
    names = input_names(model)
    ids = graph.tensor(names[0], (1, 1), np.int32)
    states = [graph.tensor(name, (1, model.units)) for name in names[1:]]
    each = len(model.kind.states)
    advance, activate = _ADVANCE[model.cell], _ACTIVATIONS[model.nonlinearity]
    x, following = graph.reshape(ids, (1,)), []
    for number, layer in enumerate(artifact.weights.layers):
        before = states[number * each : (number + 1) * each]
        input_bias, recurrent_bias = _biases(layer.bias.values)
        if number:
            inputs = graph.dense(x, layer.kernel, input_bias)
        else:  # a one-hot vector times the kernel is a row of the kernel
            row = graph.gather(graph.weights(layer.kernel), x)
            inputs = graph.sum(row, graph.constant(input_bias))
        product = graph.dense(before[0], layer.recurrent, recurrent_bias)
        after = advance(graph, activate, inputs, product, before)
        following += after
        x = after[0]
    kernel, bias = artifact.weights.dense_kernel, artifact.weights.dense_bias
    logits = graph.reshape(graph.dense(x, kernel, bias.values), (1, 1, -1))
    content = graph.model([ids, *states], [logits, *following], names, output_names(model))
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(zipfile.ZipInfo(MEMBER), artifact.description)


def load(path: Path) -> Step:
    """Load a file in LiteRT; return its step."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet_stderr():
        interpreter = Interpreter(model_content=path.read_bytes())
        interpreter.allocate_tensors()
    inputs = [detail["index"] for detail in interpreter.get_input_details()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        for index, array in zip(inputs, [ids, *states], strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        logits, *following = map(interpreter.get_tensor, outputs)
        return logits, following

    return step


def _biases(bias: Array) -> Array:
    """Return the biases of the input and recurrent products; a single bias is of the latter."""
    return bias if bias.ndim > 1 else np.stack([np.zeros_like(bias), bias])


Function = Callable[[Graph, int], int]


def _lstm(g: Graph, gate: Function, inputs: int, product: int, before: list[int]) -> list[int]:
    i, f, new, o = g.split(g.sum(inputs, product), 4)
    kept = g.product(gate(g, f), before[1])
    c = g.sum(kept, g.product(gate(g, i), g.tanh(new)))
    return [g.product(gate(g, o), g.tanh(c)), c]


def _gru(g: Graph, gate: Function, inputs: int, product: int, before: list[int]) -> list[int]:
    x_z, x_r, x_g = g.split(inputs, 3)
    h_z, h_r, h_g = g.split(product, 3)
    z, r = gate(g, g.sum(x_z, h_z)), gate(g, g.sum(x_r, h_r))
    new = g.tanh(g.sum(x_g, g.product(r, h_g)))
    change = g.op(OPS.SUB, [before[0], new], schema.SubOptionsT())
    return [g.sum(new, g.product(z, change))]


def _rnn(g: Graph, activation: Function, inputs: int, product: int, _before: Any) -> list[int]:
    return [activation(g, g.sum(inputs, product))]


def _hard_sigmoid(g: Graph, x: int) -> int:
    slope, middle, low, high = (g.constant(np.array(n, np.float32)) for n in (0.2, 0.5, 0, 1))
    line = g.sum(g.product(x, slope), middle)
    raised = g.op(OPS.MAXIMUM, [line, low], schema.MaximumMinimumOptionsT())
    return g.op(OPS.MINIMUM, [raised, high], schema.MaximumMinimumOptionsT())


_ACTIVATIONS: dict[str, Function] = {
    "sigmoid": Graph.sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "tanh": Graph.tanh,
    "relu": lambda g, x: g.op(OPS.RELU, [x]),
}
_ADVANCE = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
