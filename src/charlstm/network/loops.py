"""The two time loops of a recurrent layer, compiled by XLA: forward, and backward through time.

Each runs on a group of b rows of the batch. Knows no layer.
"""

from typing import Any

from charlstm.network.backend import tf, xla
from charlstm.network.cells import Cell


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # TensorFlow is untyped
def forward(cell: Cell, x: Any, states: Any, weights: Any, place: tuple[Any, Any]) -> Any:
    """Run b rows through all time steps.

    ``x`` (B, T, in) are the inputs of all rows, or ids (B, T, 1). ``weights`` are W, U, U
    transposed and the bias. ``place`` is the first of the b rows, and None or ``keep`` (b, T),
    which is 0 where the states are reset to zeros before a time step, and 1 elsewhere.
    Returns h (b, T, U), the last states (b, U) and the ``saved`` arrays of the cell, (b, T, kU) and
    (b, T, nU).
    """
    (kernel, recurrent, back, bias), (first, keep) = weights, place
    (steps, inputs), (rows, units) = x.shape[1:], states[0].shape
    flat = tf.reshape(tf.slice(x, (first, 0, 0), (rows, steps, inputs)), (rows * steps, inputs))
    # A one-hot vector times W is a row of W.
    z = tf.gather(kernel, flat[:, 0]) if x.dtype.is_integer else _multiply(flat, kernel)
    z = tf.reshape(z, (rows, steps, cell.blocks * units))

    def step(t: Any, states: Any, outputs: Any, saved: Any) -> Any:
        x_product = _at(saved[-1], t, 0, cell.blocks * units)
        states = _reset(states, keep, t)
        if recurrent.dtype == tf.float32 and steps > 1:
            # (U.T h.T).T is faster, if XLA is kept from turning it back into h U.
            product = tf.transpose(_kept(_multiply(back, _kept(tf.transpose(states[0])))))
        else:
            product = _multiply(states[0], recurrent)
        if steps == rows == 1:
            # Generation of one row: XLA would fuse the product and the sum into one loop, which
            # takes twice as long. It does not fuse them if both terms are used again.
            product += 0 * (product + x_product)
        states, values = cell.forward(x_product, product, bias, states)
        saved = [_put(array, now, t) for array, now in zip(saved, values, strict=True)]
        return t + 1, list(states), _put(outputs, states[0], t), saved

    outputs, *saved = (
        tf.zeros((rows, steps, blocks * units)) for blocks in (1, *cell.saved_blocks)
    )
    # The last saved array overwrites x W, time step by time step: memory that was just read is
    # written fastest.
    start = (0, list(states), outputs, [*saved, z])
    _, states, outputs, saved = tf.while_loop(lambda t, *_: t < steps, step, start)
    return outputs, states, saved


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator] # see above
def backward(
    kind: tuple[Cell, Any], gradients: Any, forward: Any, back: Any, place: tuple[Any, Any]
) -> Any:
    """Run b rows back through all time steps.

    ``kind`` is the cell and the type of products. ``gradients`` are those of all outputs (B, T, U)
    and the last states (b, U). ``forward`` has the saved arrays, outputs and first states of the
    forward loop. ``back`` is U transposed: XLA would transpose U in every time step. ``place`` is
    as in the forward loop.
    Returns the gradients of x W and h U (b, T, nU), in a list of one if they are equal; h before
    each time step (b, T, U), both in the type of products; and those of the first states (b, U).
    """
    (cell, products), (d_outputs, d_last), (first, keep) = kind, gradients, place
    saved, outputs, start = forward
    steps, (rows, units) = outputs.shape[1], start[0].shape
    before, h_before = _before(start[-1], saved[0], keep), _before(start[0], outputs, keep)
    # XLA converts a whole bfloat16 array to put rows into it, but not a uint16 array.
    bits = tf.uint16 if products == tf.bfloat16 else products

    def step(t: Any, d_states: Any, d_products: Any) -> Any:
        dh = d_states[0] + tf.slice(d_outputs, (first, t, 0), (rows, 1, units))[:, 0]
        # One slice per block: XLA would split a larger slice number by number, reading t for each.
        blocks = [
            _at(part, t, block, units) for part in saved for block in range(0, part.shape[2], units)
        ]
        last = _at(before, t, 0, units)
        d_blocks, (direct, *others) = cell.backward([dh, *d_states[1:]], blocks, last)
        dh = _multiply_blocks(d_blocks[-1], back)
        if direct is not None:
            dh += direct
        now = (tf.cast(tf.concat(side, -1), products) for side in d_blocks)
        d_products = [
            _put(array, tf.bitcast(d, bits), t) for array, d in zip(d_products, now, strict=True)
        ]
        return t - 1, _reset([dh, *others], keep, t), d_products

    zeros = [tf.zeros((rows, steps, cell.blocks * units), bits)] * (1 if cell.same else 2)
    loop = (steps - 1, list(d_last), zeros)
    _, d_first, d_products = tf.while_loop(lambda t, *_: t >= 0, step, loop)
    return [tf.bitcast(part, products) for part in d_products], tf.cast(h_before, products), d_first


def _before(first: Any, after: Any, keep: Any) -> Any:
    """Return a state before each time step, (b, T, U), from the first one and those after each."""
    before = tf.concat([first[:, None], after[:, :-1]], 1)
    return before if keep is None else before * keep[:, :, None]


def _reset(states: list[Any], keep: Any, t: Any) -> list[Any]:
    """Return states (b, U), or their gradients, times ``keep`` at time step t, if there is one."""
    return states if keep is None else [state * _at(keep, t) for state in states]


def _at(array: Any, t: Any, first: int = 0, count: int = 1) -> Any:
    """Return ``count`` columns from ``first`` on of an array (b, T, n) at time step t.

    Of an array (b, T), return its column t, (b, 1).
    """
    if len(array.shape) == 2:  # noqa: PLR2004 - the shape above
        return tf.slice(array, (0, t), (array.shape[0], 1))
    return tf.slice(array, (0, t, first), (array.shape[0], 1, count))[:, 0]


def _multiply_blocks(blocks: list[Any], back: Any) -> Any:
    """Return the product of blocks (b, U), side by side, and a matrix; in XLA only."""
    if back.dtype == tf.float32:
        return _multiply(tf.concat(blocks, -1), back)
    # In bfloat16, XLA computes several small products faster than a large one.
    parts = zip(blocks, tf.split(back, len(blocks)), strict=True)
    return sum(_multiply(block, rows) for block, rows in parts)


def _kept(array: Any) -> Any:
    """Return an array that XLA must compute as written."""
    return xla.optimization_barrier(array)[0]


def _multiply(one: Any, other: Any) -> Any:
    """Return a product accumulated in float32, whatever the type of the factors; in XLA only."""
    one = tf.cast(one, other.dtype)
    return tf.raw_ops.BatchMatMulV3(x=one, y=other, Tout=tf.float32)


def _put(array: Any, rows: Any, t: Any) -> Any:
    """Return an array (b, T, n) with its time step t set to (b, n); in XLA only, in place."""
    return xla.dynamic_update_slice(array, rows[:, None], tf.stack([0, t, 0]))
