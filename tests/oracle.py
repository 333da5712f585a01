"""A character LSTM in numpy alone, read from a weights file alone: what the program must equal.

Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000, gates in Keras's order.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


class Oracle:
    """One stream: ``step`` consumes an id and returns the logits of the next."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.about = json.loads(file["charlstm"][()])
            self.layers = [
                [file["layers"][name]["cell/vars"][i][()].astype(np.float64) for i in "012"]
                for name in sorted((n for n in file["layers"] if n.startswith("lstm")), key=_number)
            ]
            self.dense = [file["layers/dense/vars"][i][()].astype(np.float64) for i in "01"]
        self.characters: str = self.about["vocabulary"]
        units = self.layers[0][1].shape[0]
        self.state = [(np.zeros(units), np.zeros(units)) for _ in self.layers]

    def step(self, character_id: int) -> Array:
        x = np.eye(len(self.characters))[character_id]
        for layer, (kernel, recurrent, bias) in enumerate(self.layers):
            h, c = self.state[layer]
            i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            x = sigmoid(o) * np.tanh(c)
            self.state[layer] = (x, c)
        logits: Array = x @ self.dense[0] + self.dense[1]
        return logits

    def logits(self, text: str) -> Array:
        """Return the logits after each character, shape (N, V)."""
        return np.array([self.step(self.characters.index(c)) for c in text])

    def nats(self, text: str) -> Array:
        """Return the nats of every character but the first, shape (N - 1,)."""
        logits = self.logits(text[:-1])
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -np.array(
            [row[self.characters.index(c)] for row, c in zip(logits, text[1:], strict=True)]
        )

    def write(
        self,
        prime: str,
        length: int,
        temperature: float,
        seed: int,
        stream: int = 0,
        *,
        skip: int = 0,
        **filters: float,
    ) -> str:
        """Return what the model draws after the prime, ``skip`` random numbers later."""
        uniform = np.random.Generator(np.random.Philox(key=np.array([seed, stream], np.uint64)))
        uniform.random(skip)
        logits, drawn = self.logits(prime)[-1], ""
        for _ in range(length):
            if temperature:
                weights = left(np.exp((logits - logits.max()) / temperature), **filters)
                chosen = int(np.argmax(np.cumsum(weights / weights.sum()) > uniform.random()))
            else:
                chosen = int(np.argmax(logits))
            drawn += self.characters[chosen]
            logits = self.step(chosen)
        return drawn


def left(weights: Array, top_k: float = 9**9, top_p: float = 1, min_p: float = 0) -> Array:
    """Return weights (V,) with 0 for what the filters leave out, one after the other."""
    ranked = sorted(range(len(weights)), key=lambda i: (-weights[i], i))[: int(top_k)]
    mass = np.cumsum(weights[ranked]) / weights[ranked].sum()
    if top_p < 1:
        ranked = ranked[: 1 + next(i for i, reached in enumerate(mass) if reached >= top_p)]
    ranked = [i for i in ranked if weights[i] >= min_p * weights[ranked[0]]]
    return np.where(np.isin(np.arange(len(weights)), ranked), weights, 0)


def _number(name: str) -> int:
    return int(name.partition("_")[2] or 0)
