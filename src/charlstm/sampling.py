"""Generate ids: read a prime, then draw in a compiled loop. Knows ids and logits only, no text."""

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
from charlstm.network.restarts import NO_LIMIT, Restarts
from charlstm.run.weights import Checkpoint

# Characters per call of the loop. The overhead of a call takes as long as about ten characters, so
# long calls are efficient; but output should start soon and continue without noticeable pauses.
FIRST_CHUNK = 16
CHUNK = 256
CALL_SECONDS = 0.05  # seconds: the target duration of a call
LONG, WINDOW = 2048, 512  # ids: texts of at least LONG are read in windows of WINDOW
DRAWN = -1  # marks a position whose id is drawn, not given

Tick = Callable[[int], object]  # called with the number of newly read ids
Snapshot = tuple[State, Any, Any, list[np.random.Generator]]


@dataclass(frozen=True)
class Drawn:
    """The drawn characters of each text: ids and nats, both of shape (samples, characters).

    The nats are surprisals under the model's softmax, without temperature and filters. ``ends``,
    of the same shape, marks the last character of each record.
    """

    ids: NDArray[np.int32]
    nats: NDArray[np.float32]
    ends: NDArray[np.bool_]


class Sampler:
    """Generates ``samples`` texts in parallel with a stateful model and a compiled loop.

    Between calls, the model has consumed every id read or written so far, and ``_logits`` predict
    the next one. If the model was trained on records, each text restarts after a separator, as in
    training; ``restart_here`` makes a prime part of every record. A record also ends without a
    separator, once so many characters are drawn that it would have more than ``limit``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        on_gpu: bool,
        samples: int = 1,
        filters: Filters | None = None,
        limit: int = NO_LIMIT,
    ) -> None:
        self._samples = samples
        self._filters = filters or Filters()
        self._vocab_size = len(checkpoint.vocabulary)
        self._unknown = None if self._filters.allow_unknown else checkpoint.vocabulary.unknown
        self._model = build_model(
            checkpoint.model, self._vocab_size, batch_size=samples, on_gpu=on_gpu
        )
        self.set_weights(checkpoint)
        separator = checkpoint.vocabulary.encode(checkpoint.separator)
        self._restarts = Restarts(self._model, separator, limit)
        self._begin()
        self._chunk = tf.function(
            self._generate,
            autograph=False,
            jit_compile=not on_gpu,  # XLA cannot compile cuDNN's LSTM
            input_signature=[
                tf.TensorSpec((samples, self._vocab_size), tf.float32),
                (tf.TensorSpec((CHUNK,), tf.int32), tf.TensorSpec((CHUNK, samples), tf.float64)),
                tf.TensorSpec((), tf.int32),
                tf.TensorSpec((), tf.float64),
                tuple([_spec(array) for array in part] for part in (self._place, self._restart)),
            ],
        )

        self._last_logits = tf.function(
            lambda ids: self._model(ids)[:, -1],
            autograph=False,
            input_signature=[tf.TensorSpec((samples, WINDOW), tf.int32)],
        )

    def set_weights(self, checkpoint: Checkpoint) -> None:
        """Load the weights of another epoch of the same model."""
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
        """Read a prime, then yield ``length`` drawn characters; with length 0, read nothing."""
        if length:
            self.begin(prime, seed=seed, tick=tick)
            yield from self.write(length, temperature=temperature)

    def begin(self, prime: NDArray[np.int32], *, seed: int, tick: Tick = lambda _: None) -> None:
        """Reset the state, and read a prime, of at least one id if the model knows no records.

        Drawn character t of text i uses number t of stream i of ``uniforms``.
        """
        self._streams = [uniforms(seed, stream) for stream in range(self._samples)]
        self._begin()
        self.read(prime, tick)

    def _begin(self) -> None:
        self._model.reset_state()
        self._logits = self._restarts.begin(tf.zeros((self._samples, self._vocab_size)))
        self.restart_here()

    def restart_here(self) -> None:
        """From now on, restart each text after a separator as it is now.

        Without effect if the model was not trained on records.
        """
        self._restart, self._place = self._restarts.here(self._logits), self._restarts.outset()

    def read(self, ids: NDArray[np.int32], tick: Tick = lambda _: None) -> None:
        """Feed more ids to all texts, using the generation loop with given ids.

        A single text of at least LONG ids is read in windows, which is faster.
        """
        start = 0
        while self._samples == 1 and not self._restart and len(ids) - start >= LONG:
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
        """Draw ``length`` characters of each text, and yield them in chunks.

        After each chunk, the model has consumed exactly the yielded characters.
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
        """Return a snapshot of all texts for ``restore``."""
        return self.state(), self._logits, self._place, copy.deepcopy(self._streams)

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a snapshot; each snapshot can be restored only once."""
        state, self._logits, self._place, self._streams = snapshot
        self._model.set_state(state)

    def probabilities(self) -> NDArray[np.float32]:
        """Return the probabilities of the next ids under the plain softmax, (samples, V)."""
        probabilities: NDArray[np.float32] = tf.nn.softmax(self._logits).numpy()
        return probabilities

    def _advance(
        self,
        count: int,
        plan: NDArray[np.int32],
        numbers: NDArray[np.float64],
        temperature: float,
    ) -> Drawn:
        drawn, self._logits, self._place = self._chunk(
            self._logits, (plan, numbers), count, temperature, (self._place, self._restart)
        )
        return Drawn(*(array.numpy()[:count].T for array in drawn))

    def _generate(self, logits: Any, plans: Any, count: Any, temperature: Any, records: Any) -> Any:
        """Draw and feed ``count`` ids one by one.

        ``logits`` (B, V) predict the first id. ``plans`` are the given ids (CHUNK,), or DRAWN where
        an id is drawn, and the uniform numbers of the draws (CHUNK, B). ``records`` are the place
        in them and where to restart, as in Restarts.
        Returns the arrays of Drawn, each (CHUNK, B), the last logits and the last place.
        """
        (plan, numbers), (place, restart) = plans, records
        arrays = [
            tf.TensorArray(kind, CHUNK, element_shape=(self._samples,))
            for kind in (tf.int32, tf.float32, tf.bool)
        ]

        # Each iteration draws an id and then feeds it. The recurrent products of that iteration do
        # not depend on the id, so they can run on other cores during the draw.
        def step(t: Any, logits: Any, place: Any, arrays: Any) -> Any:
            drawn = draw(self._drawable(logits), numbers[t], temperature, self._filters)
            following = tf.where(plan[t] == DRAWN, drawn, plan[t])
            cost = nats(logits, following)
            logits = self._model(following[:, None])[:, 0]
            ends = tf.zeros_like(following, tf.bool)
            if restart:
                ends, place = self._restarts.after(following, place)
                logits = self._restarts.restarted(logits, ends, restart)
            values = zip(arrays, (following, cost, ends), strict=True)
            return t + 1, logits, place, [array.write(t, value) for array, value in values]

        start = (0, logits, place, arrays)
        _, logits, place, arrays = tf.while_loop(lambda t, *_: t < count, step, start)
        return [array.stack() for array in arrays], logits, place

    def _drawable(self, logits: Any) -> Any:
        """Return logits (B, V) that exclude the id of unknown characters, if there is one."""
        if self._unknown is None:
            return logits
        return logits + tf.one_hot(self._unknown, self._vocab_size, -np.inf, 0.0)


def _spec(array: Any) -> Any:
    return tf.TensorSpec(array.shape, array.dtype)


def _paced(length: float) -> Iterator[int]:
    """Yield the characters per call, adapted to the speed of the last; ``length`` in total."""
    most: float = FIRST_CHUNK
    while length > 0:
        count = int(min(most, CHUNK, length))
        started = time.perf_counter()
        yield count
        most = max(FIRST_CHUNK, count * CALL_SECONDS / (time.perf_counter() - started))
        length -= count
