"""Prime, then draw: the compiled generation loop. Ids and logits; knows no text."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.drawing import Filters, draw, uniforms
from charlstm.evaluation import nats
from charlstm.network.backend import tf
from charlstm.network.model import State, build_model
from charlstm.run.weights import Checkpoint

# Characters of one call of the loop. A call costs about as much as ten of them; but a text shall
# begin soon, and go on without a pause that is noticed.
FIRST_CHUNK = 16
CHUNK = 256
PAUSE = 0.05  # seconds
LONG, WINDOW = 2048, 512  # ids of a text that is read in windows, and of each of them
DRAWN = -1  # in place of an id that is forced

Tick = Callable[[int], object]  # is told of so many more ids
Snapshot = tuple[State, Any, list[np.random.Generator]]


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

        self._last_logits = tf.function(
            lambda ids: self._model(ids)[:, -1],
            autograph=False,
            input_signature=[tf.TensorSpec((samples, WINDOW), tf.int32)],
        )

    def set_weights(self, checkpoint: Checkpoint) -> None:
        """Take the weights of another epoch of the same model."""
        self._model.set_arrays(checkpoint.weights)

    def sample(
        self,
        prime: NDArray[np.int32],
        length: float,
        *,
        temperature: float,
        seed: int,
        tick: Tick = lambda _: None,
    ) -> Iterator[Drawn]:
        """Begin with a prime and write; where nothing is to be drawn, nothing needs to be read."""
        if length:
            self.begin(prime, seed=seed, tick=tick)
            yield from self.write(length, temperature=temperature)

    def begin(self, prime: NDArray[np.int32], *, seed: int, tick: Tick = lambda _: None) -> None:
        """Forget everything, and read a prime of at least one id.

        Character t that is drawn in text i will take the t-th number of stream i of ``uniforms``.
        """
        self._streams = [uniforms(seed, stream) for stream in range(self._samples)]
        self._model.reset_state()
        self._logits = tf.zeros((self._samples, self._vocab_size))
        self.read(prime, tick)

    def read(self, ids: NDArray[np.int32], tick: Tick = lambda _: None) -> None:
        """Read more, in all texts: the same loop, which takes these ids where it would draw.

        Most of a long text is read in windows, as a score does. ``tick`` is told of so many more.
        """
        start = 0
        while self._samples == 1 and len(ids) - start >= LONG:
            self._logits = self._last_logits(ids[None, start : start + WINDOW])
            start += WINDOW
            tick(WINDOW)
        numbers = np.zeros((CHUNK, self._samples))
        for count in _paced(len(ids) - start):
            plan = np.full(CHUNK, DRAWN, np.int32)
            plan[:count] = ids[start : start + count]
            self._advance(count, plan, numbers, 1)
            start += count
            tick(count)

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
