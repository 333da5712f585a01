"""What changes weights. Its verb is ``start``: a request -> a training, which then runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlstm.training.settings import Hooks, Request

if TYPE_CHECKING:  # for real only when a training starts: numpy, TensorFlow
    from charlstm.training.loop import Training


def start(request: Request, hooks: Hooks = Hooks()) -> Training:  # noqa: B008 - it is frozen
    """Return a training that is ready to run: a new one, or one that goes on; close it at the end.

    Raises CharlstmError for options, a text, a folder or a device that it cannot have.
    """
    import contextlib

    from charlstm.training.preparation import Preparation

    resources = contextlib.ExitStack()
    try:
        return Preparation(request, hooks, resources).training()
    except BaseException:
        resources.close()
        raise
