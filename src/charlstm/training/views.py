"""The views of a run: loss.png and, if asked for, the event file for TensorBoard.

A view that fails must not end the training: each error is reported once.
"""

from collections.abc import Callable, Iterator
from time import monotonic

from charlstm.errors import one_line
from charlstm.pages.loss_plot import loss_png
from charlstm.run.folder import RunFolder
from charlstm.training.tensorboard import Events

SHARE = 0.05  # of the time is the most that drawing may take; epochs can be shorter than a drawing


class Views:
    """The views of one run."""

    def __init__(self, run: RunFolder, events: Events | None) -> None:
        self._run = run
        self._events = events
        self._told: set[str] = set()
        self._next = 0.0  # earliest time of the next drawing
        self._is_drawn = True

    def after_step(self) -> Iterator[str]:
        """Update the event file; yield new errors."""
        if self._events:
            yield from self._tried("cannot write the event file", self._events.follow)

    def after_epoch(self) -> Iterator[str]:
        """Update the event file, and loss.png unless it was drawn lately; yield new errors."""
        self._is_drawn = False
        if monotonic() >= self._next:
            yield from self.at_end()
        yield from self.after_step()

    def at_end(self) -> Iterator[str]:
        """Draw loss.png if it is out of date; yield new errors."""
        if not self._is_drawn:
            yield from self._tried("cannot draw loss.png", self._draw)
            self._is_drawn = True

    def _draw(self) -> None:
        started = monotonic()
        self._run.write_picture(loss_png(self._run.finished_epochs()))
        self._next = monotonic() + (monotonic() - started) / SHARE

    def _tried(self, what: str, view: Callable[[], None]) -> Iterator[str]:
        try:
            view()
        except Exception as error:  # noqa: BLE001 - any failure is reported
            problem = f"{what}: {one_line(error)}"
            if problem not in self._told:
                yield problem
            self._told.add(problem)
