"""The weights of a trained model, fitted to the vocabulary of another text. Knows no files."""

import numpy as np
from numpy.typing import NDArray

from charlstm.checkpoint import Checkpoint
from charlstm.vocabulary import Vocabulary


def fit(checkpoint: Checkpoint, vocabulary: Vocabulary) -> list[NDArray[np.float32]]:
    """Return the weights for a vocabulary that has all characters of the checkpoint's, and more.

    Rows of the first kernel (V, nU) and columns of the last (U, V) move with their characters. A
    character that is new is read as the mean of the others, and is as unlikely as the unlikeliest
    of them is by its bias alone.
    """
    first, *others, kernel, bias = checkpoint.arrays
    ids = vocabulary.encode(checkpoint.vocabulary.characters)
    rows = np.tile(first.mean(axis=0), (len(vocabulary), 1))
    rows[ids] = first
    columns = np.zeros((len(kernel), len(vocabulary)), np.float32)
    columns[:, ids] = kernel
    biases = np.full(len(vocabulary), bias.min())
    biases[ids] = bias
    return [rows, *others, columns, biases]
