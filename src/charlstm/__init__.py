"""charlstm: character language models on the command line, and from Python.

    model = charlstm.load("checkpoints/input")
    print("".join(model.sample("LSTM based")))

Letters for sizes, in all docstrings and comments:

- B: batch size. The rows of a batch are called lanes; each lane is a contiguous stretch of text.
- T: characters per window (``sequence_length``).
- S: steps per epoch.
- V: characters in the vocabulary.
- U: units per layer.
- L: layers.
- N: characters in a text.

The id of a character is its index in the vocabulary.
"""

from charlstm.version import __version__

TYPE_CHECKING = False  # importing typing would take longer than the rest of this module

__all__ = ["CharlstmError", "Model", "__version__", "load", "train"]

if TYPE_CHECKING:
    from charlstm.api import CharlstmError, Model, load, train
else:

    def __getattr__(name: str) -> object:
        """Import the Python interface on first use: it imports numpy and HDF5."""
        if name in __all__:
            from charlstm import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
