"""The version of charlstm: below all rooms, since what is written says it."""

__version__ = "0.1.0"
