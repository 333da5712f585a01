"""Prime, then draw: the compiled generation loop. Ids and logits; knows no text."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.backend import tf
from charlstm.checkpoint import Checkpoint
from charlstm.model import build_model

CHUNK = 32  # characters of one call: few enough to stream, enough to hide what a call costs
DRAWN = -1  # in place of an id that is forced


class Sampler:
    """A stateful model that writes ``samples`` texts side by side, and the compiled loop."""

    def __init__(self, checkpoint: Checkpoint, *, cudnn: bool, samples: int = 1) -> None:
        self._samples = samples
        self._model = build_model(
            checkpoint.model, len(checkpoint.vocabulary), batch_size=samples, cudnn=cudnn
        )
        self.load(checkpoint)
        self._chunk = tf.function(
            self._generate,
            autograph=False,
            jit_compile=not cudnn,  # XLA cannot compile cuDNN's LSTM
            input_signature=[
                tf.TensorSpec((samples,), tf.int32),
                tf.TensorSpec((CHUNK,), tf.int32),
                tf.TensorSpec((CHUNK, samples), tf.float64),
                tf.TensorSpec((), tf.float64),
            ],
        )

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of another epoch of the same model."""
        self._model.set_arrays(checkpoint.arrays)

    def sample(
        self, prime: NDArray[np.int32], length: int, *, temperature: float, seed: int
    ) -> Iterator[NDArray[np.int32]]:
        """Yield the drawn ids in pieces, each of shape (samples, some), ``length`` in all.

        The prime, at least one id, is consumed once, by the same loop: its ids are forced where
        others are drawn. Character t of text i takes the t-th number of stream i of ``uniforms``.
        """
        streams = [uniforms(seed, stream) for stream in range(self._samples)]
        self._model.reset_state()
        previous, rest = np.full(self._samples, prime[0]), prime[1:]
        while length > 0:
            given, rest = rest[:CHUNK], rest[CHUNK:]
            plan = np.full(CHUNK, DRAWN, np.int32)
            plan[: len(given)] = given
            numbers = np.zeros((CHUNK, self._samples))
            for stream, uniform in enumerate(streams):
                numbers[len(given) :, stream] = uniform.random(CHUNK - len(given))
            ids = self._chunk(previous, plan, numbers, temperature).numpy()
            previous = ids[-1]
            drawn = ids[len(given) :][:length]
            length -= len(drawn)
            if len(drawn):
                yield drawn.T

    def _generate(self, previous: Any, plan: Any, numbers: Any, temperature: Any) -> Any:
        """Feed ids one by one, each the next one's past: ids (CHUNK, B).

        ``previous`` (B,) is fed first. ``plan`` (CHUNK,) has the ids that are forced and DRAWN
        elsewhere; ``numbers`` (CHUNK, B) are the uniform numbers of the draws.
        """
        ids = tf.TensorArray(tf.int32, CHUNK, element_shape=(self._samples,))

        def step(t: Any, current: Any, ids: Any) -> Any:
            logits = self._model(current[:, None])[:, 0]
            drawn = draw(logits, numbers[t], temperature)
            following = tf.where(plan[t] == DRAWN, drawn, plan[t])
            return t + 1, following, ids.write(t, following)

        _, _, ids = tf.while_loop(lambda t, *_: t < CHUNK, step, (0, previous, ids))
        return ids.stack()


def draw(logits: Any, numbers: Any, temperature: Any) -> Any:
    """Return an id for each row of logits (B, V) from its uniform number in [0, 1), shape (B,).

    The id is the first, in vocabulary order, whose cumulative probability exceeds the number; at
    temperature 0 it is the likeliest, the first of equals. In float64, so that the sums are the
    same to the last id that matters on every device.
    """
    logits = tf.cast(logits, tf.float64)
    temperature = tf.convert_to_tensor(temperature, tf.float64)
    divisor = tf.where(temperature > 0, temperature, 1)
    weights = tf.exp((logits - tf.reduce_max(logits, -1, keepdims=True)) / divisor)
    cumulative = tf.cumsum(weights, axis=-1)
    below = tf.cast(cumulative <= numbers[:, None] * cumulative[:, -1:], tf.int32)
    drawn = tf.minimum(tf.reduce_sum(below, -1), tf.shape(logits)[-1] - 1)
    return tf.where(temperature > 0, drawn, tf.argmax(logits, -1, output_type=tf.int32))


def uniforms(seed: int, stream: int) -> np.random.Generator:
    """Return the numbers of one stream: the t-th draw of ``random()`` belongs to character t."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
