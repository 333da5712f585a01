"""One step with explicit state -> other runtimes; the only rooms that know them.

``artifact`` is what goes out, ``destination`` where to, ``check`` whether it computes what the
model does; each other module is a format, with ``write``, ``load`` and WINDOW. The verb is
``export``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charlstm.export.request import Exported, ExportRequest, Progress

if TYPE_CHECKING:  # for real only when a model is exported: numpy, TensorFlow
    from numpy.typing import NDArray

    from charlstm.run.weights import Checkpoint
    from charlstm.text.source import Text


def export(
    checkpoint: Checkpoint,
    request: ExportRequest,
    progress: Progress = lambda _what, _total, _more: None,
) -> Exported:
    """Write a model for another runtime, and give it its name when it agrees with the model.

    Raises CharlstmError for what is missing, a path that is taken, or an artifact that disagrees;
    nothing is written then.
    """
    from charlstm.export.destination import check_destination, missing_runtime

    missing = missing_runtime(request.options.format, check=request.check is not None)
    check_destination(request.path, request.options.format, overwrite=request.options.overwrite)
    text = _read(request.check, checkpoint) if request.check else None

    from charlstm.export.writing import write_checked

    return write_checked(checkpoint, request, missing, text, progress)


def _read(text: Text, checkpoint: Checkpoint) -> tuple[NDArray[Any], str]:
    """Return the ids of the text to check on, and what was left out of it.

    Raises CharlstmError for one in which there is nothing to predict.
    """
    from charlstm.scoring import check_length
    from charlstm.text.reading import read_ids

    ids, note = read_ids(text, checkpoint.vocabulary, "skip")
    check_length(text.name, len(ids))
    return ids, note
