"""The LSTM layer with a recurrence that is fast on a CPU; on a GPU it is Keras's own, on cuDNN.

Keras's loop multiplies by the kernel and sums up both weight gradients in every time step. Here
these are three products over all time steps at once, outside of the loop. What must stay inside,
h @ U forward and dz @ U.T backward, XLA compiles, for groups of rows side by side: the rows of a
batch are independent, so that the cores need not meet in every time step. Knows no model.
"""

import os
from typing import Any

from charlstm.backend import keras, tf

# Fewer rows do not pay for reading all of U in every time step.
ROWS_PER_GROUP = 8


class LSTM(keras.layers.LSTM):  # type: ignore[misc] # Keras is untyped
    """``keras.layers.LSTM`` for whole sequences: the same variables, states and results.

    It bears the same name, since Keras names the groups of a weights file after the class.
    """

    def inner_loop(
        self,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,  # noqa: FBT001, FBT002 - Keras's signature
    ) -> Any:
        """Return the last output (B, U), all outputs (B, T, U) and the states for (B, T, in)."""
        if self.use_cudnn:
            return super().inner_loop(sequences, initial_state, mask, training)
        weights = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        outputs, h, c = lstm(sequences, *initial_state, *map(tf.convert_to_tensor, weights))
        return h, outputs, [h, c]


@tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow is untyped
def lstm(*inputs: Any) -> Any:
    """Return outputs (B, T, U) and the last h and c (B, U).

    Takes x (B, T, in), the first h and c (B, U), W (in, 4U), U (U, 4U) and b (4U), with the gates
    in Keras's order, i f g o (Hochreiter and Schmidhuber 1997; the forget gate is that of Gers et
    al. 2000):

        z = x W + h U + b    i f o = sigmoid(z)    g = tanh(z)    c = f c + i g    h = o tanh(c)
    """
    # The gradient is below: a tape need not follow what happens here.
    x, h0, c0, kernel, recurrent, bias = map(tf.stop_gradient, inputs)
    units = recurrent.shape[0]
    rows = tf.transpose(x, (1, 0, 2))  # time first: a step's rows lie together
    steps, batch = tf.shape(rows)[0], x.shape[0]
    flat = tf.reshape(rows, (-1, rows.shape[2]))
    z = tf.reshape(tf.matmul(flat, kernel), (steps, batch, 4 * units))
    groups = _groups(batch)
    results = [
        _forward(z, h0[start:stop], c0[start:stop], (recurrent, bias), tf.constant(start))
        for start, stop in groups
    ]
    hs, cs, gates = zip(*results, strict=True)
    h = tf.concat(hs, 1)

    def gradient(d_outputs: Any, d_h: Any, d_c: Any) -> Any:
        upstream = tf.transpose(d_outputs, (1, 0, 2))
        back = tf.transpose(recurrent)
        parts = [
            _backward(
                upstream,
                (gates[i], cs[i], c0[start:stop]),
                (d_h[start:stop], d_c[start:stop]),
                back,
                tf.constant(start),
            )
            for i, (start, stop) in enumerate(groups)
        ]
        dz, dh, dc = (
            tf.concat(p, a) for p, a in zip(zip(*parts, strict=True), (1, 0, 0), strict=True)
        )
        dz = tf.reshape(dz, (-1, 4 * units))
        before = tf.reshape(tf.concat([h0[None], h[:-1]], 0), (-1, units))
        dx = tf.reshape(_product(dz, kernel), tf.shape(rows))
        return (
            tf.transpose(dx, (1, 0, 2)),
            dh,
            dc,
            tf.matmul(flat, dz, transpose_a=True),
            tf.matmul(before, dz, transpose_a=True),
            tf.reduce_sum(dz, 0),
        )

    last_c = tf.concat([c[-1] for c in cs], 0)
    return (tf.transpose(h, (1, 0, 2)), h[-1], last_c), gradient


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _product(dz: Any, kernel: Any) -> Any:
    """Return dz W.T, (B x T, in): of the large products the one that XLA is faster at."""
    return tf.matmul(dz, kernel, transpose_b=True)


def _groups(batch: int) -> list[tuple[int, int]]:
    """Cut the rows of a batch into equal groups, one a core if that leaves each enough."""
    most = min(os.cpu_count() or 1, batch // ROWS_PER_GROUP)
    count = next(n for n in range(max(1, most), 0, -1) if batch % n == 0)
    size = batch // count
    return [(start, start + size) for start in range(0, batch, size)]


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _forward(z: Any, h: Any, c: Any, weights: Any, first: Any) -> Any:
    """Run the rows from ``first`` on through all time steps: h and c (T, b, U), gates (T, b, 4U).

    ``z`` (T, B, 4U) is x W of all rows, ``weights`` are U and b. One tanh serves all gates:
    sigmoid(x) is (1 + tanh(x / 2)) / 2.
    """
    recurrent, bias = weights
    steps, (rows, units) = z.shape[0], h.shape
    alone = steps == rows == 1
    half, whole, none = (tf.fill((units,), value) for value in (0.5, 1.0, 0.0))
    scale = tf.concat([half, half, whole, half], 0)
    offset = tf.concat([half, half, none, half], 0)

    def step(t: Any, h: Any, c: Any, *arrays: Any) -> Any:
        here = tf.slice(z, (t, first, 0), (1, rows, 4 * units))[0]
        product = tf.matmul(h, recurrent)
        if alone:
            # One row of generation: XLA would make product and sum one loop, which takes twice as
            # long; it does not where both terms are used once more.
            product += 0 * (product + here)
        gates = tf.tanh((here + product + bias) * scale) * scale + offset
        i, f, g, o = tf.split(gates, 4, -1)
        c = f * c + i * g
        h = o * tf.tanh(c)
        results = (h, c, gates)
        return t + 1, h, c, *(a.write(t, r) for a, r in zip(arrays, results, strict=True))

    arrays = [_array(steps, rows, width) for width in (units, units, 4 * units)]
    found = tf.while_loop(lambda t, *_: t < steps, step, (0, h, c, *arrays))
    return [array.stack() for array in found[3:]]


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def _backward(d_h: Any, saved: Any, d_last: Any, back: Any, first: Any) -> Any:
    """Return dz (T, b, 4U) and the gradients of the first h and c (b, U).

    ``d_h`` (T, B, U) are the gradients of the outputs of all rows, ``saved`` what the forward loop
    has seen: gates (T, b, 4U), c (T, b, U) and the first c (b, U); ``d_last`` are the gradients of
    the last h and c, ``back`` is U transposed, which XLA would do in every time step.
    """
    gates, c, c0 = saved
    steps, (rows, units) = gates.shape[0], c0.shape
    before = tf.concat([c0[None], c[:-1]], 0)

    def step(t: Any, dh: Any, dc: Any, array: Any) -> Any:
        dh += tf.slice(d_h, (t, first, 0), (1, rows, units))[0]
        i, f, g, o = tf.split(gates[t], 4, -1)
        tanh_c = tf.tanh(c[t])
        dc += dh * o * (1 - tanh_c * tanh_c)
        dz = tf.concat(
            [
                dc * g * i * (1 - i),
                dc * before[t] * f * (1 - f),
                dc * i * (1 - g * g),
                dh * tanh_c * o * (1 - o),
            ],
            -1,
        )
        return t - 1, tf.matmul(dz, back), dc * f, array.write(t, dz)

    start = (steps - 1, *d_last, _array(steps, rows, 4 * units))
    _, dh, dc, array = tf.while_loop(lambda t, *_: t >= 0, step, start)
    return array.stack(), dh, dc


def _array(steps: int, rows: int, width: int) -> Any:
    return tf.TensorArray(tf.float32, steps, element_shape=(rows, width))
