"""Restart texts at the end of each record, in a compiled loop over ids. Knows no characters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.network.backend import tf
from charlstm.network.model import CharacterModel

NO_LIMIT = 2**31 - 1  # ids
NOTHING = -1  # in place of an id that is not part of the record


class Restarts:
    """Where the B texts of a model are in their records, which end with a separator (k,).

    A record also ends without it, once it has so many ids that it would have more than ``limit``
    before its separator. With an empty separator, there are no records, and all lists are empty.
    """

    def __init__(self, model: CharacterModel, separator: NDArray[np.int32], limit: int) -> None:
        self._model = model
        self._separator = separator
        self._longest = min(limit + len(separator), NO_LIMIT)

    def begin(self, logits: Any) -> Any:
        """Read the end of a separator from a zero state; return the logits (B, V) after it."""
        if len(self._separator):
            logits = self._model(tf.fill((self._model.batch_size, 1), self._separator[-1]))[:, 0]
        return logits

    def outset(self) -> list[Any]:
        """Return the place at the start of a record.

        A place is the last k ids of each record (B, k), and their number so far, (B,).
        """
        if not len(self._separator):
            return []
        recent = tf.fill((self._model.batch_size, len(self._separator)), NOTHING)
        return [recent, tf.zeros(self._model.batch_size, tf.int32)]

    def here(self, logits: Any) -> list[Any]:
        """Return where to restart: these logits (B, V), and the model's states (B, U)."""
        if not len(self._separator):
            return []
        return [tf.identity(logits), *map(tf.identity, self._model.state_variables())]

    def after(self, ids: Any, place: list[Any]) -> tuple[Any, list[Any]]:
        """Return where a record ends with these ids, (B,), and the place after them."""
        recent, count = tf.concat([place[0][:, 1:], ids[:, None]], 1), place[1] + 1
        ends = tf.reduce_all(recent == self._separator, 1) | (count == self._longest)
        return ends, [tf.where(ends[:, None], NOTHING, recent), tf.where(ends, 0, count)]

    def restarted(self, logits: Any, ends: Any, restart: list[Any]) -> Any:
        """Restart the texts whose record ends, as ``here`` returned; return the logits of all."""
        first, *states = restart
        for variable, state in zip(self._model.state_variables(), states, strict=True):
            variable.assign(tf.where(ends[:, None], state, variable))
        return tf.where(ends[:, None], first, logits)
