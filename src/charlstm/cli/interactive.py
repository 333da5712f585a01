"""``charlstm sample --interactive``: a conversation in the model's state."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli._interrupt import interruptible
from charlstm.cli._options import flag
from charlstm.cli._sample_options import SampleConfig
from charlstm.cli._stdio import tell, write_text
from charlstm.cli._stream import Ending, end_line, in_colour, stream
from charlstm.cli._text import decoded, read_and_tell
from charlstm.errors import CharlstmError
from charlstm.options import is_utf8, options

if TYPE_CHECKING:  # for real only when a command runs: numpy
    from numpy.typing import NDArray

    from charlstm.sampling import Sampler
    from charlstm.text.vocabulary import Vocabulary

LIKELIEST = 10  # characters shown
HELP = """\
Each line is read with its line end, and the model goes on from all that was said.
  a line\\          is read without its line end
  ::text           is read as :text
  :reset           forget everything, as at the start
  :temperature X   below 1 likelier characters, above 1 bolder ones; 0: always the likeliest
  :length N        characters of an answer
  :next            the likeliest next characters, with their probabilities
  :help            this help
Ctrl+D ends it."""


@dataclass
class Conversation:
    """Who speaks: a sampler, which is at the end of all that was said, and how it answers.

    ``opening`` are the ids that all of it goes on from.
    """

    sampler: Sampler
    vocabulary: Vocabulary
    config: SampleConfig
    opening: NDArray[Any]
    seed: int

    def begin(self) -> None:
        """Forget everything, as at the start."""
        self.sampler.begin(self.opening, seed=self.seed)


def converse(conversation: Conversation) -> None:
    """Read lines to the end of standard input, and answer each.

    Raises CharlstmError if there is no standard input.
    """
    if not isinstance(sys.stdin, io.TextIOWrapper):
        raise CharlstmError("standard input is closed", option="interactive")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # a Python can be built without it
            import readline  # noqa: F401 - gives ``input`` its line editing and history
        tell("Type a line, and the model goes on from it; :help tells more.")
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    conversation.begin()
    while (line := _ask("> " if terminal else "")) is not None:
        try:
            if line.startswith(":") and not line.startswith("::"):
                _obey(line, conversation)
            else:
                _answer(line.removeprefix(":"), conversation)
        except CharlstmError as error:  # the conversation goes on
            tell(error.line(flag))


def _ask(prompt: str) -> str | None:
    """Return the next line, None if there is none; the line of a prompt is ended in any case."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt) as end:
        if prompt:
            write_text("\n")
        if isinstance(end, KeyboardInterrupt):
            raise
        return None


def _answer(line: str, conversation: Conversation) -> None:
    """Read a line and go on from it; what the model has read in the end is what was shown."""
    from charlstm.text.source import text_in_memory

    if not is_utf8(line):
        raise CharlstmError("the line: not UTF-8", "does the terminal use another encoding?")
    sampler, config = conversation.sampler, conversation.config
    vocabulary = conversation.vocabulary
    said = text_in_memory("the line", _said(line, vocabulary))
    sampler.read(read_and_tell(said, vocabulary, config.unknown))
    snapshot, ending = sampler.snapshot(), Ending(config.stop)
    pieces = sampler.write(config.characters, temperature=config.temperature)
    drawn = (decoded(piece, vocabulary)[0] for piece in interruptible(pieces))
    colour = in_colour(wanted=config.color)
    try:
        count = stream(drawn, ending, colour=colour)
    finally:
        end_line(colour=colour)
    if ending.complete:
        sampler.restore(snapshot)
        for _ in sampler.write(count, temperature=config.temperature):
            pass


def _said(line: str, vocabulary: Vocabulary) -> str:
    """Return a line with the line end of the texts that the model has seen; or without."""
    bare = line.removesuffix("\r")
    if bare.endswith("\\"):
        return bare.removesuffix("\\")
    return bare + "".join(character for character in "\r\n" if character in vocabulary.characters)


def _obey(line: str, conversation: Conversation) -> None:
    """Do what a line with a colon says.

    Raises CharlstmError for one that says nothing.
    """
    match line[1:].split():
        case ["reset"]:
            conversation.begin()
        case ["next"]:
            _show_next(conversation)
        case ["help"]:
            tell(HELP)
        case ["temperature" | "length" as name, value]:
            config = conversation.config
            conversation.config = replace(config, **{name: _value(name, value, config)})
        case ["temperature" | "length" as name]:
            raise CharlstmError(f":{name}: its value is missing", ":help tells more")
        case _:
            raise CharlstmError(f"{line.rstrip()}: no such command", ":help lists them")


def _value(name: str, text: str, config: SampleConfig) -> Any:
    """Return the value of an option that was typed.

    Raises CharlstmError if it cannot be one.
    """
    (item,) = (item for item in options(SampleConfig) if item.name == name)
    try:
        value: Any = click.FLOAT(text) if item.kind is float else text
    except click.BadParameter as error:
        raise CharlstmError(f":{name}: {error.message}") from None
    problem = item.problem(value)
    if name == "length" and (problem or value == "inf"):
        problem = "must be a whole number of at most 15 digits: every answer needs an end"
    if value == 0 and {config.top_k, config.top_p, config.min_p} != {None}:
        problem = "at 0 there is nothing to draw, so no --top-k, --top-p or --min-p"
    if problem:
        raise CharlstmError(f":{name}: {problem}")
    return value


def _show_next(conversation: Conversation) -> None:
    """Show the likeliest next characters by the model's own softmax."""
    from charlstm.text.vocabulary import describe

    probabilities = conversation.sampler.probabilities()[0]
    for i in (-probabilities).argsort(kind="stable")[:LIKELIEST]:
        tell(f"{probabilities[i]:8.2%}  {describe(conversation.vocabulary.characters[i])}")
