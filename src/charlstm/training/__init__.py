"""Training. The entry point is ``start``: a request -> a training that is ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlstm.training.settings import Hooks, Request

if TYPE_CHECKING:  # imported only when a training starts: it imports numpy and TensorFlow
    from charlstm.training.loop import Training


def start(request: Request, hooks: Hooks = Hooks()) -> Training:  # noqa: B008 - it is frozen
    """Return a training that is ready to run, new or resumed; the caller must close it.

    Raises CharlstmError if the options, the text, the folder or the device cannot be used.
    """
    import contextlib

    from charlstm.training.preparation import Preparation

    resources = contextlib.ExitStack()
    try:
        return Preparation(request, hooks, resources).training()
    except BaseException:
        resources.close()
        raise
