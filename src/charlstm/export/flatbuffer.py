"""Build the flatbuffer of a LiteRT model, operator by operator. Knows no recurrent network."""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from charlstm.export.artifact import KEY, Stored
from charlstm.run.weights import Array

VERSION, IDENTIFIER = 3, b"TFL3"
TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
OPS = schema.BuiltinOperator


class _Buffer(schema.BufferT):  # type: ignore[misc] # it is untyped
    """A buffer aligned to 16 bytes: the schema requires it, but its Python code does not do it."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name of the schema's code
        """Write the buffer; return its offset."""
        start = None
        if self.data is not None:
            size = len(self.data)
            builder.StartVector(1, size, 16)
            builder.head = head = builder.Head() - size
            builder.Bytes[head : head + size] = self.data.tobytes()
            start = builder.EndVector()
        schema.BufferStart(builder)
        if start is not None:
            schema.BufferAddData(builder, start)
        return schema.BufferEnd(builder)


class Graph:
    """A graph under construction; a tensor is referred to by its index."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: list[tuple[int, int]] = []  # operator codes, with the required versions
        self._buffers = [_Buffer()]  # the first, empty one is shared by all non-constant tensors

    def tensor(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> int:
        """Add a tensor for an input or a result."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), shape, TYPES[np.dtype(dtype)]
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, array: NDArray[Any]) -> int:
        """Add a constant tensor."""
        index = self.tensor(f"constant_{len(self._tensors)}", array.shape, array.dtype)
        buffer = _Buffer()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._buffers.append(buffer)
        self._tensors[index].buffer = len(self._buffers) - 1
        return index

    def weights(self, weights: Stored, *, transposed: bool = False) -> int:
        """Add weights (in, out), or (out, in) if transposed; return their float32 tensor."""
        values = weights.values.T if transposed else weights.values
        index = self.constant(values)
        if weights.scales is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = weights.scales[0]
            quantization.zeroPoint = np.zeros(weights.scales.size, np.int64)
            quantization.quantizedDimension = 0 if transposed else 1
            self._tensors[index].quantization = quantization
        if values.dtype == np.float32:
            return index
        # The runtime dequantizes a constant only once.
        version = 3 if weights.scales is None else 5
        shape = [values.shape]
        return self.ops(OPS.DEQUANTIZE, [index], None, shape, version=version)[0]

    def op(self, code: int, inputs: list[int], options: Any = None, shape: Any = None) -> int:
        """Add an operator with one output; its shape defaults to that of the first input."""
        (result,) = self.ops(code, inputs, options, [shape or self._tensors[inputs[0]].shape])
        return result

    def ops(
        self, code: int, inputs: list[int], options: Any, shapes: list[Any], *, version: int = 1
    ) -> list[int]:
        """Add an operator with one output for each shape."""
        if (code, version) not in self._codes:
            self._codes.append((code, version))
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index((code, version))
        operator.inputs = inputs
        outputs = [self.tensor(f"t_{len(self._tensors)}", shape) for shape in shapes]
        operator.outputs = outputs
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._operators.append(operator)
        return outputs

    def dense(self, x: int, weights: Stored, bias: Array) -> int:
        """Add a dense layer: the product of x (1, in) and weights (in, out), plus bias (out,)."""
        inputs = [x, self.weights(weights, transposed=True), self.constant(bias)]
        shape = (1, weights.values.shape[1])
        return self.op(OPS.FULLY_CONNECTED, inputs, schema.FullyConnectedOptionsT(), shape)

    def gather(self, rows: int, ids: int) -> int:
        """Add a lookup of the row (1, n) that ids (1,) select from a matrix."""
        shape = (1, self._tensors[rows].shape[1])
        return self.op(OPS.GATHER, [rows, ids], schema.GatherOptionsT(), shape)

    def reshape(self, x: int, shape: tuple[int, ...]) -> int:
        """Add a reshape of a tensor; one size of the new shape may be -1."""
        known = tuple(np.zeros(self._tensors[x].shape, np.bool_).reshape(shape).shape)
        options = schema.ReshapeOptionsT()
        options.newShape = known
        wanted = self.constant(np.array(known, np.int32))
        result = self.op(OPS.RESHAPE, [x, wanted], options, known)
        self._tensors[result].type = self._tensors[x].type
        return result

    def split(self, x: int, count: int) -> list[int]:
        """Add a split of x (1, n) into ``count`` blocks of equal width."""
        options = schema.SplitOptionsT()
        options.numSplits = count
        axis = self.constant(np.array(1, np.int32))
        shape = (1, self._tensors[x].shape[1] // count)
        return self.ops(OPS.SPLIT, [axis, x], options, [shape] * count)

    def sum(self, *terms: int) -> int:
        """Add the sum of two tensors."""
        return self.op(OPS.ADD, list(terms), schema.AddOptionsT())

    def product(self, *factors: int) -> int:
        """Add the elementwise product of two tensors."""
        return self.op(OPS.MUL, list(factors), schema.MulOptionsT())

    def sigmoid(self, x: int) -> int:
        """Add the logistic function of a tensor."""
        return self.op(OPS.LOGISTIC, [x])

    def tanh(self, x: int) -> int:
        """Add the hyperbolic tangent of a tensor."""
        return self.op(OPS.TANH, [x])

    def model(
        self, inputs: list[int], outputs: list[int], names: list[str], out_names: list[str]
    ) -> bytes:
        """Return the content of the model file, with these inputs and outputs and their names."""
        for tensor, name in zip(outputs, out_names, strict=True):
            self._tensors[tensor].name = name.encode()
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = KEY.encode(), self._tensors, self._operators
        graph.inputs, graph.outputs = inputs, outputs
        signature = schema.SignatureDefT()
        signature.signatureKey = b"serving_default"
        signature.inputs = _named(names, inputs)
        signature.outputs = _named(out_names, outputs)
        model = schema.ModelT()
        model.version, model.description = VERSION, KEY.encode()
        model.operatorCodes = [_code(*code) for code in self._codes]
        model.subgraphs, model.buffers, model.signatureDefs = [graph], self._buffers, [signature]
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())


def _named(names: list[str], tensors: list[int]) -> list[Any]:
    items = []
    for name, tensor in zip(names, tensors, strict=True):
        item = schema.TensorMapT()
        item.name, item.tensorIndex = name.encode(), tensor
        items.append(item)
    return items


def _code(code: int, version: int) -> Any:
    item = schema.OperatorCodeT()
    item.builtinCode = code
    item.deprecatedBuiltinCode = min(code, 127)  # read by the oldest runtimes
    item.version = version
    return item
