"""Recurrent layers with a recurrence that is fast on a CPU; on a GPU they are Keras's, on cuDNN.

Keras's loop multiplies by the kernel and sums up both weight gradients in every time step. Here
these are three products over all time steps at once, outside of the loop; of one-hot vectors, a
look-up and sums of rows. What must stay inside, h @ U forward and dz @ U.T backward, XLA compiles,
for groups of rows side by side: the rows of a batch are independent, so that the cores need not
meet in every time step. Knows no model.
"""

import os
from functools import partial
from typing import Any

from charlstm import cells
from charlstm.backend import keras, tf, xla
from charlstm.cells import Cell

ROWS_PER_GROUP = 8  # fewer do not pay for reading all of U in every time step
FEWEST_BFLOAT16_ROWS = 16  # of dz in a group: a product of fewer takes longer than in float32


class _Hoisted:
    """A layer of Keras for whole sequences: the same variables, states and results.

    Each bears Keras's name, since Keras names the groups of a weights file after the class. With
    ``bfloat16``, matrix products on a CPU are of bfloat16 numbers; sums, states and results are
    float32 all the same.
    """

    def __init__(self, units: int, *, gpu: bool, bfloat16: bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)  # type: ignore[call-arg] # that of Keras's layer
        self._gpu = gpu
        self._products = tf.bfloat16 if bfloat16 else tf.float32

    def _cell(self) -> Cell:
        raise NotImplementedError

    def inner_loop(
        self: Any,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,  # noqa: FBT001, FBT002 - Keras's signature
    ) -> Any:
        """Return the last output (B, U), all outputs (B, T, U) and the states for (B, T, in).

        Or for ids (B, T, 1), integers, which stand for their one-hot vectors.
        """
        if self._gpu or self.compute_dtype != "float32":
            if sequences.dtype.is_integer:
                size = self.cell.kernel.shape[0]
                sequences = tf.one_hot(sequences[..., 0], size, dtype=self.compute_dtype)
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc] # Keras's
        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        inputs = (sequences, *map(tf.convert_to_tensor, weights), *initial_state)
        outputs, *states = recur(self._cell(), self._products, *inputs)
        return states[0], outputs, states


class LSTM(_Hoisted, keras.layers.LSTM):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.LSTM``; its states are h and c."""

    def __init__(self, units: int, *, gpu: bool, **kwargs: Any) -> None:
        # True, not "auto": what cuDNN cannot do must raise, not cost ten times as much.
        super().__init__(units, gpu=gpu, use_cudnn=gpu, **kwargs)

    def _cell(self) -> Cell:
        return cells.LSTM


class GRU(_Hoisted, keras.layers.GRU):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.GRU``; its state is h."""

    def __init__(self, units: int, *, gpu: bool, **kwargs: Any) -> None:
        super().__init__(units, gpu=gpu, use_cudnn=gpu, **kwargs)  # as above

    def _cell(self) -> Cell:
        return cells.GRU


class SimpleRNN(_Hoisted, keras.layers.SimpleRNN):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.SimpleRNN``; its state is h. Keras has none on cuDNN."""

    def _cell(self) -> Cell:
        return cells.RNN[self.activation.__name__]


def recur(cell: Cell, products: Any, *inputs: Any) -> Any:
    """Return outputs (B, T, U) and the last states (B, U), all float32.

    ``products`` is the type of the numbers that are multiplied as matrices, where float32 is not
    faster. ``inputs`` are x (B, T, in) or ids (B, T, 1), W (in, nU), U (U, nU), the bias, and the
    first states (B, U); n and what is computed are the cell's.
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow is untyped
    def differentiable(*inputs: Any) -> Any:
        # The gradient is our own: a tape need not follow what happens here.
        return _recur(cell, products, *map(tf.stop_gradient, inputs))

    return differentiable(*inputs)


def _recur(cell: Cell, products: Any, x: Any, *inputs: Any) -> Any:
    kernel, recurrent, bias, *first = inputs
    groups = [slice(*group) for group in _groups(x.shape[0], ROWS_PER_GROUP)]
    factor = tf.cast(recurrent, products)
    back = _transposed(recurrent if groups[0].stop < FEWEST_BFLOAT16_ROWS else factor)
    if not x.dtype.is_integer:
        x, kernel = tf.cast(x, products), tf.cast(kernel, products)
    weights = kernel, factor, back, bias
    starts = [[state[rows] for state in first] for rows in groups]
    results = [
        _forward(cell, x, start, weights, tf.constant(rows.start))
        for rows, start in zip(groups, starts, strict=True)
    ]
    outputs, lasts, seen = zip(*results, strict=True)

    def gradient(d_outputs: Any, *d_last: Any) -> Any:
        parts = [
            _backward(
                (cell, products),
                (d_outputs, [d[rows] for d in d_last]),
                saved,
                back,
                tf.constant(rows.start),
            )
            for rows, *saved in zip(groups, seen, outputs, starts, strict=True)
        ]
        found, before, d_first = zip(*parts, strict=True)
        both = [_flat(part) for part in zip(*found, strict=True)]
        dx, d_kernel, d_recurrent, d_bias = _over_time(x, kernel, both, _flat(before))
        d_weights = d_kernel, d_recurrent, tf.reshape(d_bias, bias.shape)
        d_states = [tf.concat(d, 0) for d in zip(*d_first, strict=True)]
        return (dx, *(tf.cast(d, tf.float32) for d in d_weights), *d_states)

    h, *last = (tf.concat(part, 0) for part in (outputs, *zip(*lasts, strict=True)))
    return (h, *last), gradient


def _over_time(x: Any, kernel: Any, both: list[Any], before: Any) -> tuple[Any, Any, Any, Any]:
    """Return the gradients of x, W, U and the bias, from products over all time steps at once.

    ``both`` are the gradients of x W and of h U (B x T, nU), one if they are equal; ``before`` is h
    before each time step (B x T, U). The bias's is (1 or 2, nU); there is none of ids.
    """
    dz, dr = both[0], both[-1]
    if x.dtype.is_integer:
        dx, d_kernel = None, _sums_by_id(dz, tf.reshape(x, (-1,)), kernel.shape[0])
    else:
        multiply = _product if dz.dtype == tf.float32 else partial(tf.matmul, transpose_b=True)
        dx = tf.reshape(tf.cast(multiply(dz, kernel), tf.float32), tf.shape(x))
        d_kernel = tf.matmul(_flat([x]), dz, transpose_a=True)
    d_recurrent = tf.matmul(before, dr, transpose_a=True)
    ones = tf.ones((1, tf.shape(dz)[0]), dz.dtype)
    # A sum, at the speed of a product.
    d_bias = tf.concat([tf.matmul(ones, d) for d in both], 0)
    return dx, d_kernel, d_recurrent, d_bias


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _transposed(matrix: Any) -> Any:
    """Return a matrix transposed: XLA needs half the time for it."""
    return tf.transpose(matrix)


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _product(dz: Any, kernel: Any) -> Any:
    """Return dz W.T, (B x T, in), float32: in float32 the large product that XLA is faster at."""
    return tf.matmul(dz, kernel, transpose_b=True)


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _sums_by_id(dz: Any, ids: Any, count: int) -> Any:
    """Return the sums of the rows dz (B x T, nU) that have the same id: (count, nU), float32."""
    return tf.math.unsorted_segment_sum(tf.cast(dz, tf.float32), ids, count)


def _flat(groups: Any) -> Any:
    """Return groups of rows (b, T, n) as one matrix (B x T, n)."""
    return tf.reshape(tf.concat(groups, 0), (-1, groups[0].shape[2]))


def _groups(batch: int, fewest: int) -> list[tuple[int, int]]:
    """Cut the rows of a batch into equal groups, one a core if each has the fewest rows or more."""
    most = min(os.cpu_count() or 1, batch // fewest)
    count = next(n for n in range(max(1, most), 0, -1) if batch % n == 0)
    size = batch // count
    return [(start, start + size) for start in range(0, batch, size)]


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _forward(cell: Cell, x: Any, states: Any, weights: Any, first: Any) -> Any:
    """Run the rows from ``first`` on through all time steps.

    ``x`` (B, T, in) are the inputs of all rows, or ids (B, T, 1); ``weights`` are W, U, U
    transposed and the bias.
    Returns h (b, T, U), the last states (b, U) and what the backward loop must see, (b, T, some).
    """
    kernel, recurrent, back, bias = weights
    (steps, inputs), (rows, units) = x.shape[1:], states[0].shape
    flat = tf.reshape(tf.slice(x, (first, 0, 0), (rows, steps, inputs)), (rows * steps, inputs))
    # A one-hot vector times W is a row of W.
    z = tf.gather(kernel, flat[:, 0]) if x.dtype.is_integer else _multiply(flat, kernel)
    z = tf.reshape(z, (rows, steps, cell.blocks * units))

    def step(t: Any, states: Any, outputs: Any, seen: Any) -> Any:
        here = _at(seen[-1], t, 0, cell.blocks * units)
        if recurrent.dtype == tf.float32 and steps > 1:
            # (U.T h.T).T is faster, if XLA is kept from making it h U again.
            product = tf.transpose(_kept(_multiply(back, _kept(tf.transpose(states[0])))))
        else:
            product = _multiply(states[0], recurrent)
        if steps == rows == 1:
            # One row of generation: XLA would make product and sum one loop, which takes twice as
            # long; it does not where both terms are used once more.
            product += 0 * (product + here)
        states, found = cell.forward(here, product, bias, states)
        seen = [_put(array, part, t) for array, part in zip(seen, found, strict=True)]
        return t + 1, list(states), _put(outputs, states[0], t), seen

    outputs, *seen = (tf.zeros((rows, steps, blocks * units)) for blocks in (1, *cell.seen_beside))
    # The last of what is seen takes the place of x W, time step by time step: what was just read
    # is written fastest.
    start = (0, list(states), outputs, [*seen, z])
    _, states, outputs, seen = tf.while_loop(lambda t, *_: t < steps, step, start)
    return outputs, states, seen


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _backward(kind: tuple[Cell, Any], gradients: Any, saved: Any, back: Any, first: Any) -> Any:
    """Return the gradients of x W and of h U (b, T, nU), of the type of products: one if equal.

    And h before each time step (b, T, U), of that type too, and the gradients of the first states
    (b, U). ``kind`` is the cell and the type; ``gradients`` are those of the outputs (B, T, U) of
    all rows and of the last states (b, U); ``saved`` is what the forward loop has seen, its outputs
    and the first states; ``back`` is U transposed, which XLA would do in every time step.
    """
    cell, products = kind
    d_outputs, d_last = gradients
    seen, outputs, start = saved
    steps, (rows, units) = outputs.shape[1], start[0].shape
    before, h_before = (
        tf.concat([state[:, None], later[:, :-1]], 1)
        for state, later in ((start[-1], seen[0]), (start[0], outputs))
    )
    # To put rows into an array of bfloat16 numbers, XLA converts all of it; of their bits, nothing.
    bits = tf.uint16 if products == tf.bfloat16 else products

    def step(t: Any, d_states: Any, found: Any) -> Any:
        dh = d_states[0] + tf.slice(d_outputs, (first, t, 0), (rows, 1, units))[:, 0]
        # Each block is a slice of its own: of one slice that is then split, XLA looks up t anew for
        # each number, and so takes one number at a time.
        there = [
            _at(part, t, block, units) for part in seen for block in range(0, part.shape[2], units)
        ]
        last = _at(before, t, 0, units)
        both, (direct, *others) = cell.backward([dh, *d_states[1:]], there, last)
        dh = _multiply_blocks(both[-1], back)
        if direct is not None:
            dh += direct
        here = (tf.cast(tf.concat(blocks, -1), products) for blocks in both)
        found = [_put(f, tf.bitcast(d, bits), t) for f, d in zip(found, here, strict=True)]
        return t - 1, [dh, *others], found

    found = [tf.zeros((rows, steps, cell.blocks * units), bits)] * (1 if cell.same else 2)
    loop = (steps - 1, list(d_last), found)
    _, d_first, found = tf.while_loop(lambda t, *_: t >= 0, step, loop)
    return [tf.bitcast(part, products) for part in found], tf.cast(h_before, products), d_first


def _at(array: Any, t: Any, first: int, count: int) -> Any:
    """Return columns from ``first`` on of an array (b, T, n) at time step t: (b, count)."""
    return tf.slice(array, (0, t, first), (array.shape[0], 1, count))[:, 0]


def _multiply_blocks(blocks: list[Any], back: Any) -> Any:
    """Return the product of blocks (b, U), side by side, with a matrix; in XLA only."""
    if back.dtype == tf.float32:
        return _multiply(tf.concat(blocks, -1), back)
    # In bfloat16 XLA is faster at small products.
    parts = zip(blocks, tf.split(back, len(blocks)), strict=True)
    return sum(_multiply(block, rows) for block, rows in parts)


def _kept(array: Any) -> Any:
    """Return an array that XLA must make as it stands there."""
    return xla.optimization_barrier(array)[0]


def _multiply(one: Any, other: Any) -> Any:
    """Return a product whose sums are float32, whatever the factors; in XLA only."""
    one = tf.cast(one, other.dtype)
    return tf.raw_ops.BatchMatMulV3(x=one, y=other, Tout=tf.float32)


def _put(found: Any, rows: Any, t: Any) -> Any:
    """Return found (b, T, n) with rows (b, n) as those of time step t; in XLA only, in place."""
    return xla.dynamic_update_slice(found, rows[:, None], tf.stack([0, t, 0]))
