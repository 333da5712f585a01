"""One time step of each recurrent cell, forward and backward; knows no loop.

Gates and candidates lie side by side in Keras's order, so that one product computes them all. Gates
are computed with tanh, which is faster: sigmoid(x) is (1 + tanh(x / 2)) / 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from charlstm.network.backend import tf

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Cell:
    """A cell for the time loops; b rows, U units, n (``blocks``) blocks of U columns in a kernel.

    ``forward(inputs, product, bias, states)`` takes x W and h U (b, nU), the bias, and the states
    (b, U), h first. It returns the new states and ``saved``, the arrays that ``backward`` needs:
    an array (b, kU) for each k in ``saved_blocks``, then the activations (b, nU). The first of
    these arrays is the new c in an LSTM, the new h in other cells.

    ``backward(gradients, saved, before)`` takes the gradients of the new states, the blocks (b, U)
    of ``saved``, and c (in an LSTM) or h before the step. It returns the gradients of x W and of
    h U, each as a list of blocks (only one list if ``same``: they are equal), and the gradients of
    the states before the step, without the part that comes through h U (None: zero).
    """

    blocks: int
    saved_blocks: tuple[int, ...]
    same: bool
    forward: Callable[..., Any]
    backward: Callable[..., Any]


def hard_sigmoid(x: Any) -> Any:
    """Return clip(0.2 x + 0.5, 0, 1), as in Keras 1 and 2; in Keras 3, the slope is 1/6."""
    return tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0)


def _sigmoid(x: Any) -> Any:
    return 0.5 + 0.5 * tf.tanh(0.5 * x)


def _through_sigmoid(gradient: Any, y: Any) -> Any:
    """Return the gradient of x, given that of y = sigmoid(x)."""
    return gradient * y * (1 - y)


def _through_hard_sigmoid(gradient: Any, y: Any) -> Any:
    """Return the gradient of x, given that of y = hard_sigmoid(x)."""
    return gradient * 0.2 * tf.cast((y > 0) & (y < 1), y.dtype)


def _lstm(activate: Function, through: Callable[[Any, Any], Any]) -> Cell:
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000.

    The blocks are i f g o:

    i f o = gate(z)    g = tanh(z)    c = f c + i g    h = o tanh(c)    where z = x W + h U + b

    ``activate`` maps z (b, 4U) to i f g o. ``through`` maps the gradient of a gate, and the gate,
    to the gradient of its z.
    """

    def forward(inputs: Any, product: Any, bias: Any, states: Any) -> Any:
        _, c = states
        gates = activate(inputs + product + bias)
        i, f, g, o = tf.split(gates, 4, -1)
        c = f * c + i * g
        return (o * tf.tanh(c), c), (c, gates)

    def backward(gradients: Any, saved: Any, before: Any) -> Any:
        dh, dc = gradients
        c, i, f, g, o = saved
        tanh_c = tf.tanh(c)
        dc += dh * o * (1 - tanh_c * tanh_c)
        parts = [
            through(dc * g, i),
            through(dc * before, f),
            dc * i * (1 - g * g),
            through(dh * tanh_c, o),
        ]
        return [parts], (None, dc * f)

    return Cell(4, (1,), True, forward, backward)  # noqa: FBT003 - ``same``


def _sigmoids_and_tanh(z: Any) -> Any:
    units = z.shape[-1] // 4
    half, whole, none = (tf.fill((units,), value) for value in (0.5, 1.0, 0.0))
    scale = tf.concat([half, half, whole, half], 0)
    offset = tf.concat([half, half, none, half], 0)
    return tf.tanh(z * scale) * scale + offset


def _hard_sigmoids_and_tanh(z: Any) -> Any:
    i, f, g, o = tf.split(z, 4, -1)
    return tf.concat([hard_sigmoid(i), hard_sigmoid(f), tf.tanh(g), hard_sigmoid(o)], -1)


def _gru(gate: Function, through: Callable[[Any, Any], Any]) -> Cell:
    """Cho et al. 2014, with the reset gate after the product, as in cuDNN.

    The blocks are z r g:

    z r = gate(x W + b + h U + d)    g = tanh(x W + b + r (h U + d))    h = z h + (1 - z) g

    ``through`` is as in ``_lstm``.
    """

    def forward(inputs: Any, product: Any, bias: Any, states: Any) -> Any:
        (h,) = states
        x_z, x_r, x_g = tf.split(inputs + bias[0], 3, -1)
        h_z, h_r, h_g = tf.split(product + bias[1], 3, -1)
        z, r = gate(x_z + h_z), gate(x_r + h_r)
        g = tf.tanh(x_g + r * h_g)
        h = z * h + (1 - z) * g
        return (h,), (h, h_g, tf.concat([z, r, g], -1))

    def backward(gradients: Any, saved: Any, before: Any) -> Any:
        (dh,) = gradients
        _, h_g, z, r, g = saved
        d_g = dh * (1 - z) * (1 - g * g)
        d_z = through(dh * (before - g), z)
        d_r = through(d_g * h_g, r)
        return [[d_z, d_r, d_g], [d_z, d_r, d_g * r]], (dh * z,)

    return Cell(3, (1, 1), False, forward, backward)  # noqa: FBT003 - ``same``


def _rnn(activation: Function, slope: Function) -> Cell:
    """Elman 1990: h = activation(x W + h U + b); ``slope`` maps h to the derivative there."""

    def forward(inputs: Any, product: Any, bias: Any, states: Any) -> Any:
        del states
        h = activation(inputs + product + bias)
        return (h,), (h,)

    def backward(gradients: Any, saved: Any, before: Any) -> Any:
        del before
        return [[gradients[0] * slope(saved[0])]], (None,)

    return Cell(1, (), True, forward, backward)  # noqa: FBT003 - ``same``


# By the name of the cell, and of the activation of its gates or of its units.
LOOP_CELLS: dict[str, dict[str, Cell]] = {
    "lstm": {
        "sigmoid": _lstm(_sigmoids_and_tanh, _through_sigmoid),
        "hard_sigmoid": _lstm(_hard_sigmoids_and_tanh, _through_hard_sigmoid),
    },
    "gru": {
        "sigmoid": _gru(_sigmoid, _through_sigmoid),
        "hard_sigmoid": _gru(hard_sigmoid, _through_hard_sigmoid),
    },
    "rnn": {
        "tanh": _rnn(tf.tanh, lambda h: 1 - h * h),
        "relu": _rnn(tf.nn.relu, lambda h: tf.cast(h > 0, tf.float32)),
    },
}
