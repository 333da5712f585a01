"""Export a model to other runtimes, as a single step with explicit state.

Only this package knows other runtimes. ``artifact`` holds the model to export, ``destination``
checks the path and the required packages, ``check`` compares an export with the model, and
``writing`` combines them. ``onnx``, ``litert``, ``keras``, ``saved_model``, ``numpy`` and ``html``
are the formats, each with ``write``, ``load`` and WINDOW. ``litert`` uses ``flatbuffer``; ``html``
runs its page with ``javascript`` and ``chromium``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charlstm.export.request import Exported, ExportRequest, Progress

if TYPE_CHECKING:  # imports numpy and TensorFlow, so at run time only for an export
    from numpy.typing import NDArray

    from charlstm.run.weights import Checkpoint
    from charlstm.text.source import Text


def export(
    checkpoint: Checkpoint,
    request: ExportRequest,
    progress: Progress = lambda _what, _total, _more: None,
) -> Exported:
    """Export a model to another runtime; if that is installed, check that the export agrees.

    The path appears only when the export is complete and has passed the check.

    Raises CharlstmError, and writes nothing, if a package is missing, the path exists, or the
    export disagrees with the model.
    """
    from charlstm.export.destination import check_destination, missing_runtime

    missing = missing_runtime(request.options.format, check=request.check is not None)
    check_destination(request.path, request.options.format, overwrite=request.options.overwrite)
    text = _read(request.check, checkpoint) if request.check else None

    from charlstm.export.writing import write_checked

    return write_checked(checkpoint, request, missing, text, progress)


def _read(text: Text, checkpoint: Checkpoint) -> tuple[NDArray[Any], str]:
    """Return the ids of the text to measure on, and a note on the characters skipped.

    Raises CharlstmError if the text is too short to be scored.
    """
    from charlstm.text.reading import check_length, read_ids

    ids, note = read_ids(text, checkpoint.vocabulary, "skip")
    check_length(text.name, len(ids))
    return ids, note
