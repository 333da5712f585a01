"""charlstm: character language models on the command line, and from Python.

    model = charlstm.load("checkpoints/input")
    print("".join(model.sample("LSTM based")))

The letters that stand for sizes in docstrings and comments, everywhere:

- B: rows of a batch, also called lanes; each lane is one contiguous piece of the text.
- T: characters of a window (``sequence_length``).
- S: steps of an epoch.
- V: characters of the vocabulary.
- U: units of a layer.
- L: layers.
- N: characters of a text.

Ids are what characters become: the id of a character is its index in the vocabulary.
"""

from charlstm.version import __version__

TYPE_CHECKING = False  # without the import of typing, which takes longer than all of this

__all__ = ["CharlstmError", "Model", "__version__", "load", "train"]

if TYPE_CHECKING:
    from charlstm.api import CharlstmError, Model, load, train
else:

    def __getattr__(name: str) -> object:
        """Import the Python interface when it is first used: it takes numpy and HDF5."""
        if name in __all__:
            from charlstm import api

            return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
