"""Prime, then draw: the compiled generation loop. Ids and logits; knows no text."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.evaluation import nats
from charlstm.network.backend import tf
from charlstm.network.model import State, build_model
from charlstm.run.weights import Checkpoint

# Characters of one call of the loop. A call costs about as much as ten of them; but a text shall
# begin soon, and go on without a pause that is noticed.
FIRST_CHUNK = 16
CHUNK = 256
PAUSE = 0.05  # seconds
DRAWN = -1  # in place of an id that is forced

Snapshot = tuple[State, Any, list[np.random.Generator]]


@dataclass(frozen=True)
class Filters:
    """What of a distribution can be drawn; each works on what the one before it left.

    ``top_k``: so many of the likeliest characters. ``top_p``: the fewest of the likeliest whose
    mass reaches this share. ``min_p``: those at least so likely, relative to the likeliest. Of
    equally likely ones, the lower id is the likelier.
    """

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def apply(self, weights: Any) -> Any:
        """Return weights (B, V), of which the largest of a row is 1, with 0 for what is left out.

        Filters are known when the loop is traced: those that are not set cost nothing.
        """
        size = weights.shape[-1]
        count: Any = size if self.top_k is None else min(self.top_k, size)
        # At 1 nothing goes, not even what is too small to change a sum.
        share = None if self.top_p == 1 else self.top_p
        if count < size or share is not None:
            falling = tf.sort(weights, -1, "DESCENDING")[:, :count]
            least = falling[:, -1:]
            if share is not None:
                before = tf.cumsum(falling, -1, exclusive=True)
                reached = share * tf.reduce_sum(falling, -1, keepdims=True)
                count = tf.reduce_sum(tf.cast(before < reached, tf.int32), -1, keepdims=True)
                count = tf.maximum(count, 1)  # the tiniest share can be rounded to 0
                least = tf.gather(falling, count - 1, batch_dims=1)
            # To find their places among equals costs less than to sort them with their ids.
            above, equal = weights > least, weights == least
            room = count - tf.reduce_sum(tf.cast(above, tf.int32), -1, keepdims=True)
            first = tf.cumsum(tf.cast(equal, tf.int32), -1) <= room
            weights = tf.where(above | (equal & first), weights, 0)
        return tf.where(weights >= self.min_p, weights, 0) if self.min_p else weights


@dataclass(frozen=True)
class Drawn:
    """Characters drawn in each text: ids and nats, both of shape (samples, characters).

    Nats are those under the model's own softmax, whatever the temperature and the filters.
    """

    ids: NDArray[np.int32]
    nats: NDArray[np.float32]


class Sampler:
    """A stateful model that writes ``samples`` texts side by side, and the compiled loop.

    All that was read or written has been fed to the model; its last logits are kept.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        on_gpu: bool,
        samples: int = 1,
        filters: Filters | None = None,
    ) -> None:
        self._samples = samples
        self._filters = filters or Filters()
        self._vocab_size = len(checkpoint.vocabulary)
        self._model = build_model(
            checkpoint.model, self._vocab_size, batch_size=samples, on_gpu=on_gpu
        )
        self.set_weights(checkpoint)
        self._chunk = tf.function(
            self._generate,
            autograph=False,
            jit_compile=not on_gpu,  # XLA cannot compile cuDNN's LSTM
            input_signature=[
                tf.TensorSpec((samples, self._vocab_size), tf.float32),
                tf.TensorSpec((CHUNK,), tf.int32),
                tf.TensorSpec((CHUNK, samples), tf.float64),
                tf.TensorSpec((), tf.int32),
                tf.TensorSpec((), tf.float64),
            ],
        )

    def set_weights(self, checkpoint: Checkpoint) -> None:
        """Take the weights of another epoch of the same model."""
        self._model.set_arrays(checkpoint.weights)

    def sample(
        self, prime: NDArray[np.int32], length: float, *, temperature: float, seed: int
    ) -> Iterator[Drawn]:
        """Begin with a prime and write; where nothing is to be drawn, nothing needs to be read."""
        if length:
            self.begin(prime, seed=seed)
            yield from self.write(length, temperature=temperature)

    def begin(self, prime: NDArray[np.int32], *, seed: int) -> None:
        """Forget everything, and read a prime of at least one id.

        Character t that is drawn in text i will take the t-th number of stream i of ``uniforms``.
        """
        self._streams = [uniforms(seed, stream) for stream in range(self._samples)]
        self._model.reset_state()
        self._logits = tf.zeros((self._samples, self._vocab_size))
        self.read(prime)

    def read(self, ids: NDArray[np.int32]) -> None:
        """Read more, in all texts: the same loop, which takes these ids where it would draw."""
        numbers = np.zeros((CHUNK, self._samples))
        start = 0
        for count in _paced(len(ids)):
            plan = np.full(CHUNK, DRAWN, np.int32)
            plan[:count] = ids[start : start + count]
            self._advance(count, plan, numbers, 1)
            start += count

    def write(self, length: float, *, temperature: float) -> Iterator[Drawn]:
        """Yield what is drawn, in pieces, ``length`` characters of each text in all.

        Between two pieces the model has read just what was yielded.
        """
        plan = np.full(CHUNK, DRAWN, np.int32)
        for count in _paced(length):
            numbers = np.zeros((CHUNK, self._samples))
            for stream, uniform in enumerate(self._streams):
                numbers[:count, stream] = uniform.random(count)
            yield self._advance(count, plan, numbers, temperature)

    def state(self) -> State:
        """Return the model's state."""
        return self._model.state()

    def snapshot(self) -> Snapshot:
        """Return where all texts are, to restore it."""
        return self.state(), self._logits, copy.deepcopy(self._streams)

    def restore(self, snapshot: Snapshot) -> None:
        """Forget what was read and drawn since a snapshot; it serves once."""
        state, self._logits, self._streams = snapshot
        self._model.set_state(state)

    def probabilities(self) -> NDArray[np.float32]:
        """Return the probabilities of the next ids by the model's own softmax, (samples, V)."""
        probabilities: NDArray[np.float32] = tf.nn.softmax(self._logits).numpy()
        return probabilities

    def _advance(
        self,
        count: int,
        plan: NDArray[np.int32],
        numbers: NDArray[np.float64],
        temperature: float,
    ) -> Drawn:
        *drawn, self._logits = self._chunk(self._logits, plan, numbers, count, temperature)
        ids, costs = (array.numpy()[:count] for array in drawn)
        return Drawn(ids.T, costs.T)

    def _generate(self, logits: Any, plan: Any, numbers: Any, count: Any, temperature: Any) -> Any:
        """Draw ``count`` ids and feed them, one by one: ids and nats (CHUNK, B), the last logits.

        ``logits`` (B, V) are those of the first. ``plan`` (CHUNK,) has the ids that are forced and
        DRAWN elsewhere; ``numbers`` (CHUNK, B) are the uniform numbers of the draws.
        """
        shape = (self._samples,)
        arrays = (
            tf.TensorArray(tf.int32, CHUNK, element_shape=shape),
            tf.TensorArray(tf.float32, CHUNK, element_shape=shape),
        )

        # An id is drawn in the iteration that feeds it: there the products with the last states are
        # independent of it, and the cores can make them meanwhile.
        def step(t: Any, logits: Any, ids: Any, costs: Any) -> Any:
            drawn = draw(logits, numbers[t], temperature, self._filters)
            following = tf.where(plan[t] == DRAWN, drawn, plan[t])
            cost = nats(logits, following)
            logits = self._model(following[:, None])[:, 0]
            return t + 1, logits, ids.write(t, following), costs.write(t, cost)

        _, logits, *drawn = tf.while_loop(lambda t, *_: t < count, step, (0, logits, *arrays))
        return (*(array.stack() for array in drawn), logits)


def _paced(length: float) -> Iterator[int]:
    """Yield how many characters each call shall have, of ``length`` in all."""
    most: float = FIRST_CHUNK
    while length > 0:
        count = int(min(most, CHUNK, length))
        started = time.perf_counter()
        yield count
        most = max(FIRST_CHUNK, count * PAUSE / (time.perf_counter() - started))
        length -= count


def draw(logits: Any, numbers: Any, temperature: Any, filters: Filters | None = None) -> Any:
    """Return an id for each row of logits (B, V) from its uniform number in [0, 1), shape (B,).

    The id is the first, in vocabulary order, whose cumulative probability exceeds the number; at
    temperature 0 it is the likeliest, the first of equals. In float64, so that the sums are the
    same to the last id that matters on every device.
    """
    logits = tf.cast(logits, tf.float64)
    temperature = tf.convert_to_tensor(temperature, tf.float64)
    divisor = tf.where(temperature > 0, temperature, 1)
    weights = tf.exp((logits - tf.reduce_max(logits, -1, keepdims=True)) / divisor)
    if filters:
        weights = filters.apply(weights)
    # Sums may round differently where nothing is added: what weighs 0 is left out by name.
    cumulative = tf.where(weights > 0, tf.cumsum(weights, axis=-1), 0)
    above = cumulative > numbers[:, None] * tf.reduce_max(cumulative, -1, keepdims=True)
    drawn = tf.argmax(above, -1, output_type=tf.int32)
    return tf.where(temperature > 0, drawn, tf.argmax(logits, -1, output_type=tf.int32))


def uniforms(seed: int, stream: int) -> np.random.Generator:
    """Return the numbers of one stream: the t-th draw of ``random()`` belongs to character t."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
