"""The contenders: functions that prepare a benchmark and return its workload.

A call of the workload returns the number of units it processed: characters, operations or bytes.
Run as a program, this module runs the workload of one contender for each line of standard input,
and prints its rate.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.text.encoding import Corpus
from charlstm.text.encoding import encode as encode_text
from charlstm.text.opening import demo_text, open_once
from charlstm.text.vocabulary import Vocabulary
from charlstm.text.windows import Windows

Work = Callable[[], int]

MODEL, TRAIN = ModelConfig(), TrainConfig()  # all contenders use the defaults
T = TRAIN.sequence_length
DRAWN = 1024  # characters drawn per workload, over all streams; at least 64 per stream


def read(text: str) -> Corpus:
    """Encode the text file of this name, or the demo text if the name is empty."""
    opened = open_once(text) if text else demo_text()
    with tempfile.NamedTemporaryFile() as file:
        return encode_text(opened, Path(file.name))


def train_charlstm(text: str, batch: str, steps: str, precision: str = "float32") -> Work:
    """Train as ``charlstm train`` does."""
    from charlstm.network.device import select_device
    from charlstm.training.step import make_trainer

    corpus = read(text)
    config = TrainConfig(batch_size=int(batch), precision=precision)
    trainer = make_trainer(MODEL, config, len(corpus.vocabulary), select_device("cpu"))
    windows = Windows(corpus.ids, config.batch_size, T)
    advance = _advancing(trainer, windows, int(steps))
    return lambda: advance() * windows.step_size


def _advancing(trainer: Any, windows: Windows, steps: int) -> Work:
    """Return a workload of at least ``steps`` steps, in complete calls; it returns their number."""
    from charlstm.network.backend import tf
    from charlstm.training.step import dropout_key

    calls = iter(trainer.dataset(windows, trainer.calls(0, windows.steps)))
    key = tf.constant(dropout_key(1, 1, 1), tf.int64)

    def work() -> int:
        done = 0
        while done < steps:
            windows_of_call = next(calls)
            rates = tf.fill(tf.shape(windows_of_call)[:1], trainer.config.learning_rate)
            done += len(trainer.advance(windows_of_call, rates, key).numpy())
        return done

    return work


def surround(per_call: str) -> Work:
    """Run steps that compute nothing: only the input pipeline, the calls and the losses remain."""
    from charlstm.network.backend import tf
    from charlstm.training.step import Trainer

    class Idle(Trainer):
        def _replica_step(self, windows: Any, index: Any, rates: Any, _: Any) -> Any:
            return rates[index] + tf.cast(windows[index][0, 0], tf.float32)

    trainer = Idle(ModelConfig(units=8), TrainConfig(batch_size=16), 65, on_gpu=False)
    trainer.steps_per_call = int(per_call)
    steps = 320
    windows = Windows(np.zeros(16 * T * 100 * steps + 1, np.uint8), 16, T)
    return _advancing(trainer, windows, steps)


def train_keras(text: str, batch: str, steps: str) -> Work:
    """Train as the Keras script of 2016 does: ``train_on_batch``, one-hot batches from numpy."""
    from charlstm.network.backend import keras

    corpus = read(text)
    size, layers = len(corpus.vocabulary), keras.layers
    model = keras.Sequential([keras.Input(batch_shape=(int(batch), T, size))])
    for _ in range(MODEL.layers):
        model.add(layers.LSTM(MODEL.units, return_sequences=True, stateful=True))
        model.add(layers.Dropout(MODEL.dropout))
    model.add(layers.TimeDistributed(layers.Dense(size)))
    model.add(layers.Activation("softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adagrad")
    windows, one_hot = Windows(corpus.ids, int(batch), T), np.eye(size, dtype=np.float32)
    numbers = iter(range(windows.steps))

    def work() -> int:
        for _ in range(int(steps)):
            window = windows.window(next(numbers))
            model.train_on_batch(one_hot[window[:, :-1]], one_hot[window[:, 1:]])
        return int(steps) * windows.step_size

    return work


def train_pytorch(text: str, batch: str, steps: str, precision: str = "float32") -> Work:
    """Train the same network in PyTorch, with the same dropout, loss, Adam and clipping.

    For bfloat16, PyTorch's autocast chooses the operations.
    """
    import torch
    from torch import nn

    corpus = read(text)
    size = len(corpus.vocabulary)
    lstm = nn.LSTM(size, MODEL.units, MODEL.layers, batch_first=True, dropout=MODEL.dropout)
    head = nn.Sequential(nn.Dropout(MODEL.dropout), nn.Linear(MODEL.units, size))
    weights = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(weights, lr=TRAIN.learning_rate)
    windows = Windows(corpus.ids, int(batch), T)
    numbers = iter(range(windows.steps))
    state: Any = None
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

    def work() -> int:
        nonlocal state
        for _ in range(int(steps)):
            window = torch.from_numpy(windows.window(next(numbers)).astype(np.int64))
            inputs, targets = nn.functional.one_hot(window[:, :-1], size).float(), window[:, 1:]
            with autocast:
                outputs, state = lstm(inputs, state)
                state = tuple(part.detach().float() for part in state)
                logits = head(outputs).reshape(-1, size)
                loss = nn.functional.cross_entropy(logits, targets.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, TRAIN.clip_norm)
            optimizer.step()
            loss.item()
        return int(steps) * windows.step_size

    return work


def draw_charlstm(streams: str, vocab_size: str) -> Work:
    """Draw as ``charlstm sample`` does."""
    from charlstm.network.device import select_device
    from charlstm.network.initializers import initial_weights
    from charlstm.run.weights import Checkpoint
    from charlstm.sampling import Sampler

    select_device("cpu")
    vocabulary = Vocabulary("".join(map(chr, range(32, 32 + int(vocab_size)))))
    weights = initial_weights(MODEL, len(vocabulary), "keras", seed=1)
    checkpoint = Checkpoint(1, MODEL, vocabulary, weights)
    sampler = Sampler(checkpoint, on_gpu=False, samples=int(streams))
    prime, length = np.zeros(1, np.int32), max(64, DRAWN // int(streams))

    def work() -> int:
        pieces = sampler.sample(prime, length, temperature=1, seed=1)
        return sum(piece.ids.size for piece in pieces)

    return work


def draw_keras(streams: str, vocab_size: str) -> Work:
    """Draw with a loop around ``predict_on_batch``."""
    from charlstm.network.backend import keras

    count, size, layers = int(streams), int(vocab_size), keras.layers
    model = keras.Sequential([keras.Input(batch_shape=(count, 1, size))])
    for _ in range(MODEL.layers):
        model.add(layers.LSTM(MODEL.units, return_sequences=True, stateful=True))
    model.add(layers.Dense(size, activation="softmax"))
    one_hot, random = np.eye(size, dtype=np.float32), np.random.default_rng(1)
    length = max(64, DRAWN // count)

    def work() -> int:
        ids = np.zeros(count, np.int64)
        for _ in range(length):
            sums = model.predict_on_batch(one_hot[ids][:, None])[:, 0].cumsum(-1)
            ids = (sums < random.random((count, 1)) * sums[:, -1:]).sum(-1)
        return length * count

    return work


def draw_pytorch(streams: str, vocab_size: str) -> Work:
    """Draw with a loop around ``nn.LSTM``."""
    import torch
    from torch import nn

    count, size = int(streams), int(vocab_size)
    lstm, head = nn.LSTM(size, MODEL.units, MODEL.layers), nn.Linear(MODEL.units, size)
    length = max(64, DRAWN // count)

    def work() -> int:
        ids, state = torch.zeros(count, dtype=torch.int64), None
        with torch.inference_mode():
            for _ in range(length):
                outputs, state = lstm(nn.functional.one_hot(ids, size).float()[None], state)
                ids = torch.multinomial(torch.softmax(head(outputs[0]), -1), 1)[:, 0]
        return length * count

    return work


def product(precision: str = "float32") -> Work:
    """Multiply matrices of the shapes in a training step; units are floating-point operations."""
    from charlstm.network.backend import tf
    from charlstm.network.device import select_device

    select_device("cpu")
    rows, inner, columns, times = 4096, MODEL.units, 4 * MODEL.units, 5
    one, other = (
        tf.cast(tf.random.normal(shape), precision) for shape in ((rows, inner), (inner, columns))
    )
    multiply = tf.function(tf.matmul)

    def work() -> int:
        for _ in range(times):
            multiply(one, other).numpy()
        return times * 2 * rows * inner * columns

    return work


def reading(size: str) -> Work:
    """Read a block of memory repeatedly; units are bytes.

    Summing it in PyTorch is the fastest way that was found.
    """
    import torch

    block, times = torch.ones(int(size) // 4), 500

    def work() -> int:
        for _ in range(times):
            block.sum()
        return times * 4 * len(block)

    return work


def encode(kind: str) -> Work:
    """Read a text for its vocabulary, then encode it in a second pass; units are bytes."""
    line = {"ascii": "an ordinary line, and 1 more\n", "chinese": "学而时习之,不亦说乎?\n"}[kind]
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - stays open until the process ends
    file.write(line.encode() * (100_000_000 // len(line.encode())))
    file.flush()

    def work() -> int:
        return read(file.name).size

    return work


def main() -> None:
    """Run the contender named on the command line."""
    name, *arguments = sys.argv[1:]
    settings = dict(argument.split("=", 1) for argument in arguments)
    work: Work = globals()[name](**settings)
    for _ in sys.stdin:
        started = time.perf_counter()
        done = work()
        print(done / (time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
