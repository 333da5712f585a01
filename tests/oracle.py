"""Reference implementation of the models in plain numpy, loaded from a weights file.

LSTM: Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; GRU: Cho et al.
2014 with the reset gate applied after the matrix product; RNN: Elman 1990. Gates in Keras's order.
"""

import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    return np.minimum(np.maximum(0.2 * x + 0.5, 0), 1)


class Oracle:
    """A model with batch size 1: ``step`` reads an id and returns the logits of the next one."""

    def __init__(self, path: Path) -> None:
        with h5py.File(path) as file:
            self.about = json.loads(file["charlstm"][()])
            self.layers = [
                [file["layers"][name]["cell/vars"][i][()].astype(np.float64) for i in "012"]
                for name in sorted((n for n in file["layers"] if n != "dense"), key=_number)
            ]
            self.dense = [file["layers/dense/vars"][i][()].astype(np.float64) for i in "01"]
        self.cell = {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[
            self.about["model"]["cell"]
        ]
        hard = self.about["model"].get("recurrent_activation") == "hard_sigmoid"
        self.gate = hard_sigmoid if hard else sigmoid
        self.characters: str = self.about["vocabulary"]
        units = self.layers[0][1].shape[0]
        self.state = [[np.zeros(units), np.zeros(units)] for _ in self.layers]

    def step(self, character_id: int) -> Array:
        x = np.eye(len(self.characters))[character_id]
        for weights, state in zip(self.layers, self.state, strict=True):
            x = self.cell(x, state, *weights)
            state[0] = x
        logits: Array = x @ self.dense[0] + self.dense[1]
        return logits

    def _lstm(
        self, x: Array, state: list[Array], kernel: Array, recurrent: Array, bias: Array
    ) -> Array:
        i, f, g, o = np.split(x @ kernel + state[0] @ recurrent + bias, 4)
        state[1] = self.gate(f) * state[1] + self.gate(i) * np.tanh(g)
        h: Array = self.gate(o) * np.tanh(state[1])
        return h

    def _gru(
        self, x: Array, state: list[Array], kernel: Array, recurrent: Array, bias: Array
    ) -> Array:
        inputs = np.split(x @ kernel + bias[0], 3)
        products = np.split(state[0] @ recurrent + bias[1], 3)
        z, r = (self.gate(inputs[gate] + products[gate]) for gate in (0, 1))
        h: Array = z * state[0] + (1 - z) * np.tanh(inputs[2] + r * products[2])
        return h

    def _rnn(
        self, x: Array, state: list[Array], kernel: Array, recurrent: Array, bias: Array
    ) -> Array:
        z: Array = x @ kernel + state[0] @ recurrent + bias
        return np.maximum(z, 0) if self.about["model"].get("activation") == "relu" else np.tanh(z)

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
        """Return the text sampled after ``prime``, skipping the first ``skip`` random numbers."""
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
    """Return weights (V,) with 0 for characters excluded by the filters, applied in order."""
    ranked = sorted(range(len(weights)), key=lambda i: (-weights[i], i))[: int(top_k)]
    mass = np.cumsum(weights[ranked]) / weights[ranked].sum()
    if top_p < 1:
        ranked = ranked[: 1 + next(i for i, reached in enumerate(mass) if reached >= top_p)]
    ranked = [i for i in ranked if weights[i] >= min_p * weights[ranked[0]]]
    return np.where(np.isin(np.arange(len(weights)), ranked), weights, 0)


def _number(name: str) -> int:
    last = name.rpartition("_")[2]
    return int(last) if last.isdigit() else 0
