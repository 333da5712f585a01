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
    import os

    from charlstm.cluster import cluster_of
    from charlstm.training.joining import join
    from charlstm.training.preparation import Preparation

    resources = contextlib.ExitStack()
    try:
        preparation = Preparation(request, hooks, resources, cluster_of(os.environ))
        if preparation.cluster.size > 1:
            return join(preparation)
        return preparation.assembled(preparation.plan())
    except BaseException:
        resources.close()
        raise
