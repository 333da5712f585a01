"""The version of charlstm; a module of its own, since every module may import it."""

__version__ = "0.1.0"
