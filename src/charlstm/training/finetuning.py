"""The weights of a trained model, adapted to the vocabulary of another text. Knows no files."""

from dataclasses import replace

import numpy as np

from charlstm.architecture import Weights
from charlstm.run.weights import Array, Checkpoint
from charlstm.text.vocabulary import Vocabulary


def fit(checkpoint: Checkpoint, vocabulary: Vocabulary) -> Weights[Array]:
    """Return the weights for a vocabulary that contains all characters of the checkpoint's.

    Rows of the first kernel (V, nU) and columns of the dense kernel (U, V) move with their
    characters. A new character gets the mean of the old rows as its row, a column of zeros, and
    the smallest of the old biases.
    """
    old = checkpoint.weights
    first, *others = old.layers
    ids = vocabulary.encode(checkpoint.vocabulary.characters)
    rows = np.tile(first.kernel.mean(axis=0), (len(vocabulary), 1))
    rows[ids] = first.kernel
    columns = np.zeros((len(old.dense_kernel), len(vocabulary)), np.float32)
    columns[:, ids] = old.dense_kernel
    biases = np.full(len(vocabulary), old.dense_bias.min())
    biases[ids] = old.dense_bias
    return Weights((replace(first, kernel=rows), *others), columns, biases)
