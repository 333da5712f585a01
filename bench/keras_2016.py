"""The Keras script of 2016, for the release of its day, whose losses the preset keras-2016 has.

It needs Python 2.7 with keras==1.0.3, theano==0.9.0, numpy==1.16.6, scipy==1.2.3, h5py==2.10.0, six
and pyyaml<6, and the Theano backend with floatX float32:

    KERAS_BACKEND=theano python2.7 bench/keras_2016.py input.txt SEED FOLDER

It trains until AFTER steps after the loss has left its first plateau. It writes the loss of each
step to SEED.json, and what the next step depends on, when the loss leaves the plateau, to SEED.npz:
the weights, Adagrad's accumulators, and h and c of each layer.
"""

import json
import os
import sys

import numpy as np
from keras.layers import LSTM, Dense, Dropout, TimeDistributed
from keras.models import Sequential

BATCH, LENGTH = 16, 64
PLATEAU, FEW = 3.2, 20  # as in presets.py
AFTER = 610


def main():
    path, seed, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    np.random.seed(seed)
    with open(path) as file:
        text = file.read()
    characters = sorted(set(text))
    numbers = {character: number for number, character in enumerate(characters)}
    ids = np.array([numbers[character] for character in text])
    model = network(len(characters))
    one_hot = np.eye(len(characters), dtype="float32")
    lanes = np.arange(BATCH) * ((len(ids) - 1) // BATCH // LENGTH * LENGTH)
    losses, left = [], None
    while left is None or len(losses) < left + AFTER:
        columns = len(losses) * LENGTH + np.arange(LENGTH + 1)
        window = one_hot[ids[lanes[:, None] + columns]]
        losses.append(float(model.train_on_batch(window[:, :-1], window[:, 1:])))
        if left is None and len(losses) >= 2 * FEW and np.mean(losses[-FEW:]) < PLATEAU:
            left = len(losses)
            np.savez(os.path.join(folder, "%d.npz" % seed), **state(model))
    with open(os.path.join(folder, "%d.json" % seed), "w") as file:
        json.dump({"left": left, "losses": losses}, file)


def network(count):
    model = Sequential()
    for layer in range(3):
        first = {"batch_input_shape": (BATCH, LENGTH, count)} if layer == 0 else {}
        model.add(LSTM(512, return_sequences=True, stateful=True, **first))
        model.add(Dropout(0.2))
    model.add(TimeDistributed(Dense(count, activation="softmax")))
    model.compile(loss="categorical_crossentropy", optimizer="adagrad")
    return model


def state(model):
    arrays = {"w%02d" % i: array for i, array in enumerate(model.get_weights())}
    arrays.update({"a%02d" % i: array for i, array in enumerate(model.optimizer.get_weights())})
    recurrent = [layer for layer in model.layers if isinstance(layer, LSTM)]
    for number, layer in enumerate(recurrent):
        for name, variable in zip("hc", layer.states):
            arrays["%s%d" % (name, number)] = variable.get_value()
    return arrays


if __name__ == "__main__":
    main()
