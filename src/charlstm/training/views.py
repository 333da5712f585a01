"""What a run has to be looked at: loss.png and, if asked for, the event file for TensorBoard.

A view that fails is worth no training's end: it is told of, once.
"""

from collections.abc import Callable, Iterator
from time import monotonic

from charlstm.errors import one_line
from charlstm.pages.loss_plot import loss_png
from charlstm.run.folder import RunFolder
from charlstm.training.tensorboard import Events

SHARE = 0.05  # of the time, at most, that drawing may take: epochs can be shorter than a picture


class Views:
    """The views of one run."""

    def __init__(self, run: RunFolder, events: Events | None) -> None:
        self._run = run
        self._events = events
        self._told: set[str] = set()
        self._next = 0.0  # when it may be drawn again
        self._is_drawn = True

    def after_step(self) -> Iterator[str]:
        """Bring up to date what shows steps; yield what went wrong."""
        if self._events:
            yield from self._tried("no event file", self._events.follow)

    def after_epoch(self) -> Iterator[str]:
        """Bring all up to date, the picture if it was not drawn just now; yield what went wrong."""
        self._is_drawn = False
        if monotonic() >= self._next:
            yield from self.at_end()
        yield from self.after_step()

    def at_end(self) -> Iterator[str]:
        """Draw the picture if there is something new in it; yield what went wrong."""
        if not self._is_drawn:
            yield from self._tried("no loss.png", self._draw)
            self._is_drawn = True

    def _draw(self) -> None:
        started = monotonic()
        self._run.write_picture(loss_png(self._run.finished_epochs()))
        self._next = monotonic() + (monotonic() - started) / SHARE

    def _tried(self, what: str, view: Callable[[], None]) -> Iterator[str]:
        try:
            view()
        except Exception as error:  # noqa: BLE001 - whatever fails is told
            problem = f"{what}: {one_line(error)}"
            if problem not in self._told:
                yield problem
            self._told.add(problem)
