"""The LSTM layer with a recurrence that is fast on a CPU; on a GPU it is Keras's own, on cuDNN.

Keras's loop multiplies by the kernel and sums up both weight gradients in every time step. Here
these are three products over all time steps at once, outside of the loop. What must stay inside,
h @ U forward and dz @ U.T backward, XLA compiles, for groups of rows side by side: the rows of a
batch are independent, so that the cores need not meet in every time step. Knows no model.
"""

import os
from functools import partial
from typing import Any

from charlstm.backend import keras, tf, xla

# Fewer rows do not pay for reading all of U in every time step; in bfloat16, for laying it out
# anew as well.
ROWS_PER_GROUP = {tf.float32: 8, tf.bfloat16: 64}


class LSTM(keras.layers.LSTM):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.LSTM`` for whole sequences: the same variables, states and results.

    It bears the same name, since Keras names the groups of a weights file after the class. With
    ``bfloat16``, matrix products on a CPU are of bfloat16 numbers; sums, states and results are
    float32 all the same.
    """

    def __init__(self, units: int, *, bfloat16: bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self._products = tf.bfloat16 if bfloat16 else tf.float32

    def inner_loop(
        self,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,  # noqa: FBT001, FBT002 - Keras's signature
    ) -> Any:
        """Return the last output (B, U), all outputs (B, T, U) and the states for (B, T, in)."""
        if self.use_cudnn or self.compute_dtype != "float32":
            return super().inner_loop(sequences, initial_state, mask, training)
        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        inputs = (sequences, *initial_state, *map(tf.convert_to_tensor, weights))
        outputs, h, c = lstm(self._products, *inputs)
        return h, outputs, [h, c]


def lstm(products: Any, *inputs: Any) -> Any:
    """Return outputs (B, T, U) and the last h and c (B, U), all float32.

    ``products`` is the type of the numbers that are multiplied as matrices. ``inputs`` are
    x (B, T, in), the first h and c (B, U), W (in, 4U), U (U, 4U) and b (4U), with the gates in
    Keras's order, i f g o (Hochreiter and Schmidhuber 1997; the forget gate is that of Gers et al.
    2000):

        z = x W + h U + b    i f o = sigmoid(z)    g = tanh(z)    c = f c + i g    h = o tanh(c)
    """

    @tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow is untyped
    def differentiable(*inputs: Any) -> Any:
        # The gradient is our own: a tape need not follow what happens here.
        return _lstm(products, *map(tf.stop_gradient, inputs))

    return differentiable(*inputs)


def _lstm(products: Any, x: Any, h0: Any, c0: Any, *weights: Any) -> Any:
    kernel, recurrent, bias = weights
    kernel, recurrent = tf.cast(kernel, products), tf.cast(recurrent, products)
    (batch, steps), (units, width) = tf.unstack(tf.shape(x)[:2]), recurrent.shape
    flat = tf.cast(tf.reshape(x, (-1, x.shape[2])), products)
    z = tf.reshape(tf.matmul(flat, kernel), (batch, steps, width))
    groups = _groups(x.shape[0], ROWS_PER_GROUP[products])
    results = [
        _forward(z, h0[start:stop], c0[start:stop], (recurrent, bias), tf.constant(start))
        for start, stop in groups
    ]
    hs, cs, gates = zip(*results, strict=True)
    h = tf.concat(hs, 0)
    last_c = tf.concat([c[-1] for c in cs], 0)

    def gradient(d_outputs: Any, d_h: Any, d_c: Any) -> Any:
        back = _transposed(recurrent)
        parts = [
            _backward(
                d_outputs,
                (gates[i], cs[i], c0[start:stop]),
                (d_h[start:stop], d_c[start:stop]),
                back,
                tf.constant(start),
            )
            for i, (start, stop) in enumerate(groups)
        ]
        dz, dh, dc = (tf.concat(part, 0) for part in zip(*parts, strict=True))
        dz = tf.reshape(dz, (-1, width))
        before = tf.concat([h0[:, None], h[:, :-1]], 1)
        before = tf.cast(tf.reshape(before, (-1, units)), products)
        rows = tf.ones((1, batch * steps), products)
        d_weights = [tf.matmul(flat, dz, transpose_a=True), tf.matmul(before, dz, transpose_a=True)]
        multiply = _product if products == tf.float32 else partial(tf.matmul, transpose_b=True)
        dx = tf.reshape(tf.cast(multiply(dz, kernel), tf.float32), tf.shape(x))
        d_bias = tf.matmul(rows, dz)[0]  # a sum, at the speed of a product
        return (dx, dh, dc, *(tf.cast(d, tf.float32) for d in (*d_weights, d_bias)))

    return (h, h[:, -1], last_c), gradient


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _transposed(matrix: Any) -> Any:
    """Return a matrix transposed: XLA needs half the time for it."""
    return tf.transpose(matrix)


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _product(dz: Any, kernel: Any) -> Any:
    """Return dz W.T, (B x T, in), float32: in float32 the large product that XLA is faster at."""
    return tf.matmul(dz, kernel, transpose_b=True)


def _groups(batch: int, fewest: int) -> list[tuple[int, int]]:
    """Cut the rows of a batch into equal groups, one a core if each has the fewest rows or more."""
    most = min(os.cpu_count() or 1, batch // fewest)
    count = next(n for n in range(max(1, most), 0, -1) if batch % n == 0)
    size = batch // count
    return [(start, start + size) for start in range(0, batch, size)]


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _forward(z: Any, h: Any, c: Any, weights: Any, first: Any) -> Any:
    """Run the rows from ``first`` on through all time steps.

    ``z`` (B, T, 4U) is x W of all rows, ``weights`` are U and b. Returns h (b, T, U), and, each
    time step's rows together, c (T, b, U) and the gates (T, b, 4U). One tanh serves all gates:
    sigmoid(x) is (1 + tanh(x / 2)) / 2.
    """
    recurrent, bias = weights
    steps, (rows, units) = z.shape[1], h.shape
    alone = steps == rows == 1
    half, whole, none = (tf.fill((units,), value) for value in (0.5, 1.0, 0.0))
    scale = tf.concat([half, half, whole, half], 0)
    offset = tf.concat([half, half, none, half], 0)

    def step(t: Any, h: Any, c: Any, outputs: Any, *arrays: Any) -> Any:
        here = tf.slice(z, (first, t, 0), (rows, 1, 4 * units))[:, 0]
        here = tf.cast(here, tf.float32)
        product = _multiply(h, recurrent)
        if alone:
            # One row of generation: XLA would make product and sum one loop, which takes twice as
            # long; it does not where both terms are used once more.
            product += 0 * (product + here)
        gates = tf.tanh((here + product + bias) * scale) * scale + offset
        i, f, g, o = tf.split(gates, 4, -1)
        c = f * c + i * g
        h = o * tf.tanh(c)
        saved = (a.write(t, r) for a, r in zip(arrays, (c, gates), strict=True))
        return t + 1, h, c, _put(outputs, h, t), *saved

    outputs = tf.zeros((rows, steps, units))
    arrays = [_array(steps, rows, width) for width in (units, 4 * units)]
    found = tf.while_loop(lambda t, *_: t < steps, step, (0, h, c, outputs, *arrays))
    return found[3], *(array.stack() for array in found[4:])


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _backward(d_h: Any, saved: Any, d_last: Any, back: Any, first: Any) -> Any:
    """Return dz (b, T, 4U), of the type of ``back``, and the gradients of the first h and c (b, U).

    ``d_h`` (B, T, U) are the gradients of the outputs of all rows, ``saved`` what the forward loop
    has seen: gates (T, b, 4U), c (T, b, U) and the first c (b, U); ``d_last`` are the gradients of
    the last h and c, ``back`` is U transposed, which XLA would do in every time step.
    """
    gates, c, c0 = saved
    steps, (rows, units) = gates.shape[0], c0.shape
    before = tf.concat([c0[None], c[:-1]], 0)
    whole = back.dtype == tf.float32  # XLA is faster at four small products in bfloat16, not here

    def step(t: Any, dh: Any, dc: Any, found: Any) -> Any:
        dh += tf.slice(d_h, (first, t, 0), (rows, 1, units))[:, 0]
        i, f, g, o = tf.split(gates[t], 4, -1)
        tanh_c = tf.tanh(c[t])
        dc += dh * o * (1 - tanh_c * tanh_c)
        parts = [
            dc * g * i * (1 - i),
            dc * before[t] * f * (1 - f),
            dc * i * (1 - g * g),
            dh * tanh_c * o * (1 - o),
        ]
        dz = tf.concat(parts, -1)
        factors = [(dz, back)] if whole else zip(parts, tf.split(back, 4), strict=True)
        dh = sum(_multiply(one, other) for one, other in factors)
        return t - 1, dh, dc * f, _put(found, dz, t)

    found = tf.zeros((rows, steps, 4 * units))
    start = (steps - 1, *d_last, found)
    _, dh, dc, found = tf.while_loop(lambda t, *_: t >= 0, step, start)
    return tf.cast(found, back.dtype), dh, dc


def _multiply(one: Any, other: Any) -> Any:
    """Return a product whose sums are float32, whatever the factors; in XLA only."""
    one = tf.cast(one, other.dtype)
    return tf.raw_ops.BatchMatMulV3(x=one, y=other, Tout=tf.float32)


def _put(found: Any, rows: Any, t: Any) -> Any:
    """Return found (b, T, n) with rows (b, n) as those of time step t; in XLA only, in place."""
    return xla.dynamic_update_slice(found, rows[:, None], tf.stack([0, t, 0]))


def _array(steps: int, rows: int, width: int) -> Any:
    return tf.TensorArray(tf.float32, steps, element_shape=(rows, width))
