"""Plot the losses of a training as a PNG image. Knows no files and no TensorFlow."""

import io
import logging
from typing import Any

from charlstm.run.history import Epoch, best, bits_per_char

SIZE, DOTS = (8.0, 4.5), 120  # inches, dots per inch
TRAIN, VALID, GREY = "#0072b2", "#d55e00", "#767676"  # distinct with red-green colour blindness
MARKED = 40  # epochs: a longer curve has no markers


def loss_png(epochs: list[Epoch]) -> bytes:
    """Return a plot of the losses as a PNG image, with nats on the left and bits on the right.

    The image does not depend on the user's matplotlib settings.
    """
    # Silence warnings about a home folder that is not writable, and about building a font cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(SIZE, DOTS, layout="constrained")
        _draw(figure.add_subplot(), epochs)
        # Outside the axes, so that it never covers the curves.
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        FigureCanvasAgg(figure)  # the backend of savefig
        figure.savefig(image, format="png")
    return image.getvalue()


def _draw(axes: Any, epochs: list[Epoch]) -> None:
    from matplotlib.ticker import MaxNLocator

    mark = "o" if len(epochs) <= MARKED else ""
    line = {"marker": mark, "markersize": 3.5, "linewidth": 1.6}
    train = {e.epoch: e.train_loss for e in epochs if e.train_loss is not None}
    valid = {e.epoch: e.valid_loss for e in epochs if e.valid_loss is not None}
    axes.plot(*_points(train), color=TRAIN, label="training", **line)
    if valid:
        axes.plot(*_points(valid), color=VALID, label="validation", **line)
    chosen = best(epochs)
    if chosen is not None:
        axes.axvline(chosen, color=GREY, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
        loss = valid[chosen]
        axes.plot(
            chosen,
            loss,
            "o",
            color=VALID,
            fillstyle="none",
            markersize=9,
            markeredgewidth=1.6,
            label=f"best: epoch {chosen}, {loss:.4f} nats, {bits_per_char(loss):.4f} bits",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, nats per character")
    # The functions convert nats to bits, and bits to nats.
    bits = axes.secondary_yaxis("right", functions=(bits_per_char, lambda b: b / bits_per_char(1)))
    bits.set_ylabel("bits per character")
    axes.set_xlim(0.5, max([1, *(e.epoch for e in epochs)]) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in (axes, bits):
        side.spines[:].set_color("#b0b0b0")
        side.tick_params(color="#b0b0b0")


def _points(losses: dict[int, Any]) -> tuple[list[int], list[float]]:
    return list(losses), list(losses.values())
