"""Recurrent layers: on a CPU with faster loops than Keras's, on a GPU Keras's own, on cuDNN.

In every time step, Keras's loop multiplies by the kernel and adds to the gradients of both weight
matrices. Here, these are three products over all time steps at once, outside the loop; for one-hot
vectors, a look-up of rows and sums of rows replace two of them. XLA compiles what must stay inside
the loop: h @ U forward and dz @ U.T backward. The rows of a batch are independent, so groups of
rows run in parallel, and the cores need not synchronise in every time step. Knows no model.
"""

from functools import partial
from typing import Any

from charlstm.hardware import usable_cores
from charlstm.network.backend import keras, tf
from charlstm.network.cells import LOOP_CELLS, Cell, hard_sigmoid
from charlstm.network.loops import backward, forward

ROWS_PER_GROUP = 8  # minimum: with fewer, reading all of U in every time step does not pay
FEWEST_BFLOAT16_ROWS = 16  # of dz in a group: with fewer, float32 products are faster


class _Hoisted:
    """A Keras layer with a faster loop: the same variables, states and results.

    Each subclass is named as in Keras, since Keras names the groups of a weights file after the
    class. With ``bfloat16``, matrix products on a CPU multiply bfloat16 numbers; sums, states and
    results are still float32.
    """

    def __init__(self, units: int, *, on_gpu: bool, bfloat16: bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)  # type: ignore[call-arg] # calls Keras's layer
        self._on_gpu = on_gpu
        self._products = tf.bfloat16 if bfloat16 else tf.float32
        self._keep: Any = None

    def _cell(self) -> Cell:
        raise NotImplementedError

    def call(self: Any, sequences: Any, *args: Any, keep: Any = None, **kwargs: Any) -> Any:
        """Return what Keras's layer does for sequences (B, T, in), or ids as in ``inner_loop``.

        Where ``keep`` (B, T), if it is not None, is 0, the states are reset to zeros before a time
        step; elsewhere it is 1. On a GPU, nothing is reset: cuDNN cannot.
        """
        self._keep = keep
        return super().call(sequences, *args, **kwargs)  # type: ignore[misc] # Keras's

    def inner_loop(
        self: Any,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,  # noqa: FBT001, FBT002 - Keras's signature
    ) -> Any:
        """Return the last output (B, U), all outputs (B, T, U) and the last states.

        ``sequences`` is (B, T, in), or integer ids (B, T, 1), which stand for one-hot vectors.
        """
        if self._on_gpu or self.compute_dtype != "float32":
            if sequences.dtype.is_integer:
                size = self.cell.kernel.shape[0]
                sequences = tf.one_hot(sequences[..., 0], size, dtype=self.compute_dtype)
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc] # Keras's
        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        inputs = (sequences, *map(tf.convert_to_tensor, weights), *initial_state)
        outputs, *states = recur((self._cell(), self._products), self._keep, *inputs)
        return states[0], outputs, states


class _Gated(_Hoisted):
    """A layer with gates, which cuDNN can run, unless they are hard sigmoids."""

    def __init__(
        self, units: int, *, on_gpu: bool, recurrent_activation: Any = "sigmoid", **kwargs: Any
    ) -> None:
        hard = recurrent_activation == "hard_sigmoid"
        super().__init__(
            units,
            on_gpu=on_gpu,
            recurrent_activation=hard_sigmoid if hard else recurrent_activation,
            # True, not "auto": what cuDNN cannot run must raise, not take ten times as long.
            use_cudnn=on_gpu and not hard,
            **kwargs,
        )


class LSTM(_Gated, keras.layers.LSTM):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.LSTM``; its states are h and c."""

    def _cell(self) -> Cell:
        return LOOP_CELLS["lstm"][self.recurrent_activation.__name__]


class GRU(_Gated, keras.layers.GRU):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.GRU``; its state is h."""

    def _cell(self) -> Cell:
        return LOOP_CELLS["gru"][self.recurrent_activation.__name__]


class SimpleRNN(_Hoisted, keras.layers.SimpleRNN):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.SimpleRNN``; its state is h. Keras does not run it on cuDNN."""

    def _cell(self) -> Cell:
        return LOOP_CELLS["rnn"][self.activation.__name__]


def recur(kind: tuple[Cell, Any], keep: Any, *inputs: Any) -> Any:
    """Return outputs (B, T, U) and the last states (B, U), all float32.

    ``kind`` is the cell, which defines n and the computation, and the type of matrix products,
    except where float32 is faster. ``keep`` (B, T), if it is not None, is 0 where the states are
    reset to zeros before a time step, and 1 elsewhere. ``inputs`` are x (B, T, in) or ids
    (B, T, 1), W (in, nU), U (U, nU), the bias, and the first states (B, U).
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow is untyped
    def differentiable(*inputs: Any) -> Any:
        # The gradient is defined below, so tapes need not record these operations.
        return _recur(kind, keep, *map(tf.stop_gradient, inputs))

    return differentiable(*inputs)


def _recur(kind: tuple[Cell, Any], keep: Any, x: Any, *inputs: Any) -> Any:
    (cell, products), (kernel, recurrent, bias, *first) = kind, inputs
    groups = [slice(*group) for group in row_groups(x.shape[0], ROWS_PER_GROUP)]
    places = [(tf.constant(rows.start), None if keep is None else keep[rows]) for rows in groups]
    factor = tf.cast(recurrent, products)
    back = _transposed(recurrent if groups[0].stop < FEWEST_BFLOAT16_ROWS else factor)
    if not x.dtype.is_integer:
        x, kernel = tf.cast(x, products), tf.cast(kernel, products)
    weights = kernel, factor, back, bias
    starts = [[state[rows] for state in first] for rows in groups]
    results = [
        forward(cell, x, start, weights, place) for place, start in zip(places, starts, strict=True)
    ]
    outputs, lasts, saved = zip(*results, strict=True)

    def gradient(d_outputs: Any, *d_last: Any) -> Any:
        parts = [
            backward(kind, (d_outputs, [d[rows] for d in d_last]), of_rows, back, place)
            for rows, place, *of_rows in zip(groups, places, saved, outputs, starts, strict=True)
        ]
        d_products, before, d_first = zip(*parts, strict=True)
        flat = [_flat(part) for part in zip(*d_products, strict=True)]
        dx, d_kernel, d_recurrent, d_bias = _over_time(x, kernel, flat, _flat(before))
        d_weights = d_kernel, d_recurrent, tf.reshape(d_bias, bias.shape)
        d_states = [tf.concat(d, 0) for d in zip(*d_first, strict=True)]
        return (dx, *(tf.cast(d, tf.float32) for d in d_weights), *d_states)

    h, *last = (tf.concat(part, 0) for part in (outputs, *zip(*lasts, strict=True)))
    return (h, *last), gradient


def _over_time(
    x: Any, kernel: Any, d_products: list[Any], before: Any
) -> tuple[Any, Any, Any, Any]:
    """Return the gradients of x, W, U and the bias, from products over all time steps at once.

    ``d_products`` are the gradients of x W and of h U (B x T, nU), only one if they are equal;
    ``before`` is h before each time step (B x T, U). If x are ids, its gradient is None. The
    gradient of the bias is (1, nU) or (2, nU).
    """
    dz, dr = d_products[0], d_products[-1]
    if x.dtype.is_integer:
        dx, d_kernel = None, _sums_by_id(dz, tf.reshape(x, (-1,)), kernel.shape[0])
    else:
        multiply = _product if dz.dtype == tf.float32 else partial(tf.matmul, transpose_b=True)
        dx = tf.reshape(tf.cast(multiply(dz, kernel), tf.float32), tf.shape(x))
        d_kernel = tf.matmul(_flat([x]), dz, transpose_a=True)
    d_recurrent = tf.matmul(before, dr, transpose_a=True)
    ones = tf.ones((1, tf.shape(dz)[0]), dz.dtype)
    # A sum over rows, written as a product because that is faster.
    d_bias = tf.concat([tf.matmul(ones, d) for d in d_products], 0)
    return dx, d_kernel, d_recurrent, d_bias


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _transposed(matrix: Any) -> Any:
    """Return a matrix transposed; XLA does it in half the time."""
    return tf.transpose(matrix)


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _product(dz: Any, kernel: Any) -> Any:
    """Return dz W.T, (B x T, in), float32: the one large product that is faster in XLA."""
    return tf.matmul(dz, kernel, transpose_b=True)


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _sums_by_id(dz: Any, ids: Any, count: int) -> Any:
    """Return the sum of the rows of dz (B x T, nU) for each id: (count, nU), float32."""
    return tf.math.unsorted_segment_sum(tf.cast(dz, tf.float32), ids, count)


def _flat(groups: Any) -> Any:
    """Return groups of rows (b, T, n) as one matrix (B x T, n)."""
    return tf.reshape(tf.concat(groups, 0), (-1, groups[0].shape[2]))


def row_groups(batch: int, fewest: int) -> list[tuple[int, int]]:
    """Split a batch into equal groups, at most one per core, of at least ``fewest`` rows if it can.

    Returns the first row of each group, and the row after its last one.
    """
    most = min(usable_cores(), batch // fewest)
    count = next(n for n in range(max(1, most), 0, -1) if batch % n == 0)
    size = batch // count
    return [(start, start + size) for start in range(0, batch, size)]
