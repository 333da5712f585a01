"""``charlstm sample --interactive``: a conversation in the model's state."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli.interrupt import interruptible
from charlstm.cli.sample import check_utf8, decoded, read_ids, typed
from charlstm.cli.stream import Ending, end_line, in_colour, stream, write
from charlstm.config import SampleConfig, options
from charlstm.errors import CharlstmError

if TYPE_CHECKING:  # for real only when a command runs: numpy
    from charlstm.sampling import Sampler
    from charlstm.vocabulary import Vocabulary

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


def converse(
    sampler: Sampler, vocabulary: Vocabulary, config: SampleConfig, reset: Callable[[], None]
) -> None:
    """Read lines to the end of standard input, and answer each.

    ``reset`` makes the sampler begin anew.

    Raises CharlstmError if there is no standard input.
    """
    if not isinstance(sys.stdin, io.TextIOWrapper):
        raise CharlstmError("--interactive: standard input is closed")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # a Python can be built without it
            import readline  # noqa: F401 - gives ``input`` its line editing and history
        _say("Type a line, and the model goes on from it; :help tells more.")
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    while (line := _ask("> " if terminal else "")) is not None:
        try:
            if line.startswith(":") and not line.startswith("::"):
                config = _command(line, config, sampler, vocabulary, reset)
            else:
                _answer(line.removeprefix(":"), config, sampler, vocabulary)
        except CharlstmError as error:  # the conversation goes on
            _say(str(error))


def _ask(prompt: str) -> str | None:
    """Return the next line, None if there is none; the line of a prompt is ended in any case."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt) as end:
        if prompt:
            write("\n")
        if isinstance(end, KeyboardInterrupt):
            raise
        return None


def _answer(line: str, config: SampleConfig, sampler: Sampler, vocabulary: Vocabulary) -> None:
    """Read a line and go on from it; what the model has read in the end is what was shown."""
    check_utf8("the line", line)
    said = typed("the line", _said(line, vocabulary))
    sampler.read(read_ids(said, vocabulary, config.unknown))
    mark, ending = sampler.mark(), Ending(config.stop)
    pieces = sampler.write(config.characters, temperature=config.temperature)
    drawn = (decoded(piece, vocabulary)[0] for piece in interruptible(pieces))
    colour = in_colour(wanted=config.color)
    try:
        count = stream(drawn, ending, colour=colour)
    finally:
        end_line(colour=colour)
    if ending.found:
        sampler.go_back(mark)
        for _ in sampler.write(count, temperature=config.temperature):
            pass


def _said(line: str, vocabulary: Vocabulary) -> str:
    """Return a line with its line end, in so far as the model has seen such; or without."""
    bare = line.removesuffix("\r")
    if bare.endswith("\\"):
        return bare.removesuffix("\\")
    return bare + "".join(c for c in line[len(bare) :] + "\n" if c in vocabulary.characters)


def _command(
    line: str,
    config: SampleConfig,
    sampler: Sampler,
    vocabulary: Vocabulary,
    reset: Callable[[], None],
) -> SampleConfig:
    """Do what a line with a colon says; return the options from then on.

    Raises CharlstmError for one that says nothing.
    """
    match line[1:].split():
        case ["reset"]:
            reset()
        case ["next"]:
            _show_next(sampler, vocabulary)
        case ["help"]:
            _say(HELP)
        case ["temperature" | "length" as name, value]:
            return replace(config, **{name: _value(name, value, config)})
        case ["temperature" | "length" as name]:
            raise CharlstmError(f":{name}: its value is missing; :help tells more")
        case _:
            raise CharlstmError(f"{line.rstrip()}: no such command; :help lists them")
    return config


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


def _show_next(sampler: Sampler, vocabulary: Vocabulary) -> None:
    """Show the likeliest next characters by the model's own softmax."""
    from charlstm.vocabulary import describe

    chances = sampler.chances()[0]
    for i in (-chances).argsort(kind="stable")[:LIKELIEST]:
        _say(f"{chances[i]:8.2%}  {describe(vocabulary.characters[i])}")


def _say(text: str) -> None:
    click.echo(text, err=True)
