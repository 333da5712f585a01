"""What a run has to be looked at: loss.png and, if asked for, the event file for TensorBoard.

A view that fails is worth no training's end: it is told of, once.
"""

from collections.abc import Callable, Iterator

from charlstm.pages.loss_plot import loss_png
from charlstm.run.folder import RunFolder
from charlstm.run.history import epochs
from charlstm.training.tensorboard import Events


class Views:
    """The views of one run."""

    def __init__(self, run: RunFolder, events: Events | None) -> None:
        self._run = run
        self._events = events
        self._told: set[str] = set()

    def after_step(self) -> Iterator[str]:
        """Bring up to date what shows steps; yield what went wrong."""
        if self._events:
            yield from self._tried("no event file", self._events.follow)

    def after_epoch(self) -> Iterator[str]:
        """Bring all up to date; yield what went wrong."""
        yield from self._tried("no loss.png", self._draw)
        yield from self.after_step()

    def _draw(self) -> None:
        self._run.write_picture(loss_png(epochs(self._run.history()[0])))

    def _tried(self, what: str, view: Callable[[], None]) -> Iterator[str]:
        try:
            view()
        except Exception as error:  # noqa: BLE001 - whatever fails is told
            problem = f"{what}: {' '.join(str(error).split()) or type(error).__name__}"
            if problem not in self._told:
                yield problem
            self._told.add(problem)
