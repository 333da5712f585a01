"""Check that an artifact agrees with the model, each running in its own runtime."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError
from charlstm.evaluation import evaluate
from charlstm.export.artifact import Artifact, Step, zero_state
from charlstm.network.backend import tf
from charlstm.network.model import build_model
from charlstm.run.weights import Array, Checkpoint

PRIME = 200  # characters of the vocabulary in the prime, at most
CHARACTERS = 200  # characters that the model generates after the prime
TOLERANCE = 1e-4  # absolute, for a logit or a state
# Relative to the largest value, for values above 50, where float32 is too coarse for TOLERANCE;
# 16 times the precision of float32.
RELATIVE_TOLERANCE = 2e-6
SEQUENCE_LENGTH = 256  # characters per window when the original model is measured

Ids = NDArray[np.int32]
Tick = Callable[[int], object]  # called with the number of newly processed characters


@dataclass(frozen=True)
class Comparison:
    """The largest difference between an artifact and the model.

    ``equal`` is whether logits, states and the most likely character agreed at every step, within
    the tolerance.
    """

    difference: float
    equal: bool


@np.errstate(over="ignore", invalid="ignore")  # overflows are reported below
def compare(
    step: Step, artifact: Artifact, *, characters: int = CHARACTERS, tick: Tick = lambda _: None
) -> Comparison:
    """Compare an artifact with the model on a prime and on the model's most likely continuation.

    At every step the artifact starts from the model's states, so that differences cannot
    accumulate, and its new states are compared as well as its logits. The model uses the artifact's
    rounded weights.

    Raises CharlstmError if the model itself overflows.
    """
    model = build_model(artifact.model, artifact.vocab_size, batch_size=1, on_gpu=False)
    model.set_arrays(artifact.arrays())
    # Traced once, since 400 eager steps would take seconds.
    read = tf.function(
        lambda ids: model(ids)[0, 0],
        autograph=False,
        input_signature=[tf.TensorSpec((1, 1), tf.int32)],
    )
    prime = prime_of(artifact)
    states, following = zero_state(artifact.model), 0
    difference, equal = 0.0, True
    for count in range(len(prime) + characters):
        ids = np.array([[prime[count] if count < len(prime) else following]], np.int32)
        logits, after = step(ids, states)
        expected, states = read(ids).numpy(), model.state()
        if not all(np.isfinite(array).all() for array in (expected, *states)):
            raise CharlstmError("the model itself overflows on the text of the check")
        apart = [_apart(logits[0, 0], expected), *map(_apart, after, states)]
        difference = max(difference, *(far for far, _ in apart))
        following, other = int(expected.argmax()), int(logits[0, 0].argmax())
        gap = expected[following] - expected[other]
        equal &= all(far <= allowed for far, allowed in apart) and gap <= apart[0][1]
        tick(1)
    return Comparison(difference, bool(equal))


def prime_of(artifact: Artifact) -> Ids:
    """Return the ids of the prime, evenly spread over the vocabulary."""
    count = min(artifact.vocab_size, PRIME)
    return np.linspace(0, artifact.vocab_size - 1, count).astype(np.int32)


def check(step: Step, artifact: Artifact, tick: Tick = lambda _: None) -> Comparison:
    """Compare an artifact with the model; raise CharlstmError if they disagree."""
    comparison = compare(step, artifact, tick=tick)
    if not comparison.equal:
        raise CharlstmError(
            "the exported model disagrees with the original: logits or states differ by up to "
            f"{comparison.difference:.2g}; nothing was written"
        )
    return comparison


def _apart(computed: Array, expected: Array) -> tuple[float, float]:
    """Return the largest difference between two arrays, and the tolerance for it."""
    far = np.nan_to_num(np.abs(computed - expected), nan=np.inf).max()
    return float(far), max(TOLERANCE, RELATIVE_TOLERANCE * float(np.abs(expected).max()))


def model_nats(checkpoint: Checkpoint, ids: Ids, tick: Tick) -> float:
    """Return the original model's mean nats per character on a text, in one lane."""
    model = build_model(checkpoint.model, len(checkpoint.vocabulary), batch_size=1, on_gpu=False)
    model.set_arrays(checkpoint.weights)
    return evaluate(
        model,
        ids.astype(checkpoint.vocabulary.id_dtype),
        sequence_length=SEQUENCE_LENGTH,
        lanes=1,
        tick=lambda: tick(SEQUENCE_LENGTH),
    ).nats_per_char


def step_nats(step: Step, states: list[Array], ids: Ids, window: int, tick: Tick) -> float:
    """Return an artifact's mean nats per character on a text, read ``window`` characters a step."""
    nats = 0.0
    for inputs, targets in _windows(ids, window):
        logits, states = step(inputs, states)
        scores = logits[0].astype(np.float64)
        top = scores.max(axis=-1)
        sums = top + np.log(np.exp(scores - top[:, None]).sum(axis=-1))
        nats += float((sums - scores[np.arange(len(targets)), targets]).sum())
        tick(len(targets))
    return nats / (len(ids) - 1)


def _windows(ids: Ids, window: int) -> Iterator[tuple[Ids, Ids]]:
    for start in range(0, len(ids) - 1, window):
        span = ids[start : start + window + 1]
        yield span[None, :-1], span[1:]
