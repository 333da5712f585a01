"""Validate the weights that the end of an epoch saves. Knows no epoch and no file."""

from collections.abc import Callable

from charlstm.architecture import Weights
from charlstm.evaluation import TEMPERATURES, at_temperature, default_lanes, evaluate
from charlstm.run.weights import Array
from charlstm.text.records import Records
from charlstm.text.source import Ids
from charlstm.training.step import Trainer, device_errors


def validated(
    trainer: Trainer,
    ids: Ids | Records,
    *,
    lanes: int | None = None,
    tick: Callable[[], object] = lambda: None,
) -> tuple[Weights[Array], float | None]:
    """Return the weights to save, and their loss on ``ids`` in nats; None if there are no ids.

    The weights are calibrated if the options ask for it. ``lanes`` and ``tick`` are those of
    ``evaluate``.
    """
    model = trainer.saved_model()
    weights = model.arrays()
    if not len(ids):
        return weights, None
    with device_errors(trainer.config):
        found = evaluate(
            model,
            ids,
            sequence_length=trainer.config.sequence_length,
            lanes=lanes or default_lanes(len(ids), trainer.config.batch_size),
            temperatures=TEMPERATURES if trainer.config.calibrate else (1.0,),
            tick=tick,
            workers=trainer.workers,
        )
    return at_temperature(weights, found.temperature), found.nats_per_char
