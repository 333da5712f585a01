"""Whether an artifact does what the model does: side by side in their own runtimes."""

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

PRIME = 200  # characters at most, of all that the vocabulary has
CHARACTERS = 200  # that the model writes behind it
TOLERANCE = 1e-4  # of a logit or a state
# What float32 cannot do better at: 16 times its precision, for numbers above 50.
RELATIVE_TOLERANCE = 2e-6
SEQUENCE_LENGTH = 256  # of the model's own windows

Ids = NDArray[np.int32]
Tick = Callable[[int], object]  # is told of so many more characters


@dataclass(frozen=True)
class Comparison:
    """How far an artifact and the model were apart at most, and whether that was far.

    ``equal``: in no step further than the tolerance, in logits, in states or in text.
    """

    difference: float
    equal: bool


@np.errstate(over="ignore", invalid="ignore")  # an overflow is said below
def compare(
    step: Step, artifact: Artifact, *, characters: int = CHARACTERS, tick: Tick = lambda _: None
) -> Comparison:
    """Let the model read a prime and write its likeliest text, and the artifact read it, too.

    Each step of the artifact begins with the states that the model then has, and must end with
    those that the model ends with: so that no difference grows, and none is hidden. The model has
    the weights that the artifact has, rounded as they are.

    Raises CharlstmError for a model whose numbers overflow.
    """
    model = build_model(artifact.model, artifact.vocab_size, batch_size=1, on_gpu=False)
    model.set_arrays(artifact.arrays())
    # Traced once: 400 steps outside of a graph take seconds.
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
            raise CharlstmError("the model itself overflows on a text of its own")
        apart = [_apart(logits[0, 0], expected), *map(_apart, after, states)]
        difference = max(difference, *(far for far, _ in apart))
        following, other = int(expected.argmax()), int(logits[0, 0].argmax())
        gap = expected[following] - expected[other]
        equal &= all(far <= allowed for far, allowed in apart) and gap <= apart[0][1]
        tick(1)
    return Comparison(difference, bool(equal))


def prime_of(artifact: Artifact) -> Ids:
    """Return the ids that are read first, evenly spread over the vocabulary."""
    count = min(artifact.vocab_size, PRIME)
    return np.linspace(0, artifact.vocab_size - 1, count).astype(np.int32)


def check(step: Step, artifact: Artifact, tick: Tick = lambda _: None) -> Comparison:
    """Compare, and refuse what is not equal.

    Raises CharlstmError.
    """
    comparison = compare(step, artifact, tick=tick)
    if not comparison.equal:
        raise CharlstmError(
            "the exported model disagrees with the original: logits or states differ by up to "
            f"{comparison.difference:.2g}; nothing was written"
        )
    return comparison


def _apart(computed: Array, expected: Array) -> tuple[float, float]:
    """Return how far two arrays are apart at most, and how far they may be."""
    far = np.nan_to_num(np.abs(computed - expected), nan=np.inf).max()
    return float(far), max(TOLERANCE, RELATIVE_TOLERANCE * float(np.abs(expected).max()))


def model_nats(checkpoint: Checkpoint, ids: Ids, tick: Tick) -> float:
    """Return the mean nats of a text's characters by the model itself, in one lane."""
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
    """Return the mean nats of a text's characters by an artifact, ``window`` of them a step."""
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
