"""Whether an artifact does what the model does: side by side in their own runtimes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.backend import tf
from charlstm.checkpoint import Checkpoint
from charlstm.errors import CharlstmError
from charlstm.evaluation import evaluate
from charlstm.export.artifact import Array, Artifact, Step, zero_state
from charlstm.model import build_model

CHARACTERS = 200  # that are written side by side
PRIME = 50  # the first ids of the vocabulary, at most so many
TOLERANCE = 1e-4  # of a logit
# What float32 cannot do better at: 16 times its precision, for logits above 50.
RELATIVE_TOLERANCE = 2e-6
SEQUENCE_LENGTH = 256  # of the model's own windows

Ids = NDArray[np.int32]
Tick = Callable[[int], object]  # is told of so many more characters


@dataclass(frozen=True)
class Comparison:
    """How far an artifact and the model were apart: in logits, and whether in text."""

    difference: float
    tolerance: float
    same_text: bool

    @property
    def equal(self) -> bool:
        """Whether the artifact does what the model does."""
        return self.same_text and self.difference <= self.tolerance


def compare(
    step: Step, artifact: Artifact, *, characters: int = CHARACTERS, tick: Tick = lambda _: None
) -> Comparison:
    """Let the model write its likeliest text, and the artifact read it, character by character.

    The model has the weights that the artifact has, rounded as they are. Where its two best
    characters are closer than the tolerance, either may be the artifact's.
    """
    model = _model(artifact)
    states = zero_state(artifact.model)
    difference = largest = 0.0
    same_text = True
    prime = min(artifact.vocab_size, PRIME)
    following = 0
    for count in range(prime + characters):
        ids = np.array([[count if count < prime else following]], np.int32)
        expected = model(ids)
        logits, states = step(ids, states)
        found = logits[0, 0]
        apart = np.nan_to_num(np.abs(found - expected), nan=np.inf).max()
        difference = max(difference, float(apart))
        largest = max(largest, float(np.abs(expected).max()))
        following = int(expected.argmax())
        gap = expected[following] - expected[found.argmax()]
        same_text &= bool(gap <= TOLERANCE)
        tick(1)
    return Comparison(difference, max(TOLERANCE, RELATIVE_TOLERANCE * largest), same_text)


def check(step: Step, artifact: Artifact, tick: Tick = lambda _: None) -> Comparison:
    """Compare, and refuse what is not equal.

    Raises CharlstmError.
    """
    found = compare(step, artifact, tick=tick)
    if not found.equal:
        raise CharlstmError(
            "what was made is not what the model is: logits differ by up to "
            f"{found.difference:.2g}, where {found.tolerance:.2g} is allowed"
            f"{'' if found.same_text else ', and the likeliest text differs'}; nothing was written"
        )
    return found


def model_nats(checkpoint: Checkpoint, ids: Ids, tick: Tick) -> float:
    """Return the mean nats of a text's characters by the model itself, in one lane."""
    model = build_model(checkpoint.model, len(checkpoint.vocabulary), batch_size=1, cudnn=False)
    model.set_arrays(checkpoint.arrays)
    found = evaluate(
        model,
        ids.astype(checkpoint.vocabulary.id_dtype),
        sequence_length=SEQUENCE_LENGTH,
        lanes=1,
        tick=lambda: tick(SEQUENCE_LENGTH),
    )
    return found.nats_per_char


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
        piece = ids[start : start + window + 1]
        yield piece[None, :-1], piece[1:]


def _model(artifact: Artifact) -> Callable[[Ids], Array]:
    """Return what reads one id, (1, 1), and returns the logits (V,) of the next, from the start."""
    model = build_model(artifact.model, artifact.vocab_size, batch_size=1, cudnn=False)
    model.set_arrays(artifact.arrays())
    one = tf.TensorSpec((1, 1), tf.int32)
    step = tf.function(lambda ids: model(ids)[0, 0], autograph=False, input_signature=[one])
    return lambda ids: step(ids).numpy()
