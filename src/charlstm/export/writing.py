"""Write an artifact, load it in its runtime, compare and measure it, then move it to its path."""

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from charlstm import folders
from charlstm.export.artifact import Step, make, zero_state
from charlstm.export.check import CHARACTERS, check, model_nats, prime_of, step_nats
from charlstm.export.destination import FOLDERS, format_module, importing, is_pattern, placing
from charlstm.export.request import Exported, ExportRequest, Loss, Progress
from charlstm.files import write_errors
from charlstm.network.device import select_device
from charlstm.run.weights import Checkpoint

Text = tuple[NDArray[Any], str]  # ids, and a note on skipped characters


def write_checked(
    checkpoint: Checkpoint,
    request: ExportRequest,
    missing: str,
    text: Text | None,
    progress: Progress,
) -> Exported:
    """Write and check an artifact; ``missing`` is the package of its runtime if not installed.

    Raises CharlstmError as ``export`` does.
    """
    select_device("cpu")  # makes exports the same on every machine
    form = format_module(request.options.format)
    artifact = make(checkpoint, request.options.stored)
    characters = len(prime_of(artifact)) + CHARACTERS
    difference = loss = None
    with placing(request.path, request.options.format, overwrite=request.options.overwrite) as new:
        with write_errors(request.path):
            form.write(artifact, new)
        progress("checking", characters, 0)
        if not missing:
            with importing(request.options.format):
                step = form.load(new)
            difference = check(step, artifact, partial(progress, "checking", characters)).difference
            if text is not None:
                loss = _loss(checkpoint, text, step, form.WINDOW, progress)
        size = folders.size(new)
    note = form.note() if request.options.format == "html" else ""
    if request.options.format in FOLDERS and is_pattern(request.path):
        note = "TensorFlow reads this path as a glob pattern; rename it, or load it through a link"
    return Exported(request.path, size, difference, characters, missing, loss, note)


def _loss(checkpoint: Checkpoint, text: Text, step: Step, window: int, progress: Progress) -> Loss:
    """Measure the loss of the original model and of the export on a text."""
    ids, note = text
    tick: Callable[[int], object] = partial(progress, "measuring", 2 * (len(ids) - 1))
    before = model_nats(checkpoint, ids, tick)
    after = step_nats(step, zero_state(checkpoint.model), ids, window, tick)
    return Loss(before, after, len(ids) - 1, note)
