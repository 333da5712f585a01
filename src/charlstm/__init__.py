"""charlstm: character language models on the command line.

The letters that stand for sizes in docstrings and comments, everywhere:

- B: rows of a batch, also called lanes; each lane is one contiguous piece of the text.
- T: characters of a window (``--sequence-length``).
- S: steps of an epoch.
- V: characters of the vocabulary.
- U: units of a layer.
- L: layers.
- N: characters of a text.

Ids are what characters become: the id of a character is its index in the vocabulary.
"""

__version__ = "0.1.0"
