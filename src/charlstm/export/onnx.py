"""The format onnx: ONNX's recurrent operators, with dynamic batch and time dimensions."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from charlstm.architecture import state_names
from charlstm.export.artifact import (
    KEY,
    Artifact,
    Step,
    Stored,
    check_size,
    input_names,
    output_names,
)
from charlstm.run.weights import Array
from charlstm.version import __version__

WINDOW = 64  # characters per step when an export is measured
OPSET, IR = 17, 8  # versions from 2022, so that older runtimes can read the file
# Gates of Keras's kernels in ONNX's order: input, output, forget, cell; update, reset, new.
BLOCKS = {"lstm": (0, 3, 1, 2), "gru": (0, 1, 2), "rnn": (0,)}


def write(artifact: Artifact, path: Path) -> None:
    """Write the file; the JSON description is in its metadata."""
    check_size(artifact, "onnx")
    graph = _Graph()
    x, states = _layers(graph, artifact)
    kernel, bias = artifact.weights.dense_kernel, artifact.weights.dense_bias
    x = graph.add("MatMul", x, graph.weights("dense_kernel", kernel))
    x = graph.add("Add", x, graph.array("dense_bias", bias.values))
    graph.add("Transpose", x, to="logits", perm=[1, 0, 2])
    model = artifact.model
    shape: list[str | int] = ["batch", model.units]
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", "time"])]
    inputs += [helper.make_tensor_value_info(n, floats, shape) for n in state_names(model)]
    logits = helper.make_tensor_value_info("logits", floats, ["batch", "time", artifact.vocab_size])
    outputs = [helper.make_tensor_value_info(name, floats, shape) for name in states]
    made = helper.make_model(
        helper.make_graph(graph.nodes, KEY, inputs, [logits, *outputs], graph.arrays),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name=KEY,
        producer_version=__version__,
    )
    helper.set_model_props(made, {KEY: artifact.description})
    onnx.checker.check_model(made, full_check=True)
    path.write_bytes(made.SerializeToString())


def load(path: Path) -> Step:
    """Load a file in onnxruntime; return its step.

    Raises ImportError if onnxruntime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]

    def step(ids: NDArray[np.int32], states: list[Array]) -> tuple[Array, list[Array]]:
        logits, *states = session.run(None, dict(zip(names, [ids, *states], strict=True)))
        return logits, states

    return step


def _layers(graph: "_Graph", artifact: Artifact) -> tuple[str, list[str]]:
    """Add the recurrent layers; return the names of the last layer's output and of all states."""
    model, outputs = artifact.model, output_names(artifact.model)[1:]
    names = iter(zip(input_names(model)[1:], outputs, strict=True))
    op = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}[model.cell]
    settings: dict[str, Any] = {"linear_before_reset": 1} if model.cell == "gru" else {}
    if model.activation == "relu":
        settings = {"activations": ["Relu"]}
    if model.recurrent_activation == "hard_sigmoid":
        others = ["Tanh"] * len(model.kind.states)  # of the candidate; in an LSTM, of c
        settings |= {"activations": ["HardSigmoid", *others]}
        settings |= {"activation_alpha": [0.2], "activation_beta": [0.5]}
    first = graph.array("first", np.array([0]))
    # The operators put time first, and their states have a leading axis for the direction.
    ids = graph.add("Cast", "ids", to_type=TensorProto.INT64)
    ids = graph.add("Transpose", ids, perm=[1, 0])
    depth = graph.array("depth", np.array(artifact.vocab_size))
    x = graph.add("OneHot", ids, depth, graph.array("off_on", np.array([0, 1], np.float32)))
    for number, layer in enumerate(artifact.weights.layers, 1):
        states = [next(names) for _ in model.kind.states]
        weights = [
            graph.gates(f"kernel_{number}", layer.kernel, model.cell),
            graph.gates(f"recurrent_{number}", layer.recurrent, model.cell),
            graph.array(f"bias_{number}", _bias(layer.bias.values, model.cell)),
        ]
        starts = [graph.add("Unsqueeze", name, first) for name, _ in states]
        results = [f"{name}_of_{number}" for name in ("y", *model.kind.states)]
        node = helper.make_node(
            op, [x, *weights, "", *starts], results, hidden_size=model.units, **settings
        )
        graph.nodes.append(node)
        direction = graph.array(f"direction_{number}", np.array([1]))
        x = graph.add("Squeeze", results[0], direction)
        for name, (_, output) in zip(results[1:], states, strict=True):
            graph.add("Squeeze", name, first, to=output)
    return x, outputs


def _in_blocks(array: NDArray[Any], cell: str) -> NDArray[Any]:
    """Return an array (..., nU) with its n gates in ONNX's order."""
    parts = np.split(array, len(BLOCKS[cell]), -1)
    return np.concatenate([parts[block] for block in BLOCKS[cell]], -1)


def _bias(bias: NDArray[Any], cell: str) -> NDArray[Any]:
    """Return ONNX's bias (1, 2nU): that of the input product, then that of the recurrent one."""
    both = bias if bias.ndim > 1 else np.stack([bias, np.zeros_like(bias)])
    return _in_blocks(both, cell).reshape(1, -1)


class _Graph:
    """A graph under construction: nodes and constants, referred to by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: list[TensorProto] = []

    def add(self, op: str, *inputs: str, to: str = "", to_type: int = 0, **attributes: Any) -> str:
        """Add a node with one output; return the name of the output."""
        to = to or f"{op.lower()}_{len(self.nodes)}"
        if to_type:
            attributes["to"] = to_type
        self.nodes.append(helper.make_node(op, inputs, [to], **attributes))
        return to

    def array(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant; return its name."""
        self.arrays.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, name: str, weights: Stored) -> str:
        """Add weights; return the name of their float32 values."""
        return self._widened(name, weights.values, weights.scales)

    def gates(self, name: str, weights: Stored, cell: str) -> str:
        """Add a kernel (in, nU) in ONNX's layout, (1, nU, in)."""
        values = _in_blocks(weights.values, cell).T[None]
        scales = weights.scales
        return self._widened(name, values, None if scales is None else _in_blocks(scales, cell).T)

    def _widened(self, name: str, values: NDArray[Any], scales: NDArray[Any] | None) -> str:
        result = self.array(name, values)
        if values.dtype != np.float32:
            # Runtimes fold a Cast of a constant when they load it. They keep QDQ nodes as they are.
            result = self.add("Cast", result, to_type=TensorProto.FLOAT)
        if scales is not None:
            result = self.add("Mul", result, self.array(f"{name}_scale", scales))
        return result
