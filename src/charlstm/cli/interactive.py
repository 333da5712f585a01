"""``charlstm sample --interactive``: a conversation, remembered in the model's state."""

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

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from numpy.typing import NDArray

    from charlstm.adaptation import Learner
    from charlstm.run.weights import Checkpoint
    from charlstm.sampling import Sampler
    from charlstm.text.vocabulary import Vocabulary

LIKELIEST = 10  # characters shown
FEWEST = 2  # characters to learn from: one as context, one to predict
HELP = """\
The model reads each line with its line end, and continues the whole conversation.
  line\\            leave out the line end
  ::text           read the text ":text"
  :reset           start a new conversation
  :temperature X   lower is safer, higher is bolder; 0: always the likeliest
  :length N        number of characters in an answer
  :next            show the most likely next characters
  :adapt on|off    learn from what you type; the model's file does not change
  :help            show this help
Ctrl+D ends the conversation."""


@dataclass
class Conversation:
    """A sampler, whose state holds the conversation so far, and the settings of its answers.

    ``opening`` are the ids that each conversation starts with. ``checkpoint`` is the model, which
    learns from what is typed while ``adapting``.
    """

    sampler: Sampler
    vocabulary: Vocabulary
    config: SampleConfig
    opening: NDArray[Any]
    seed: int
    checkpoint: Checkpoint | None = None
    adapting: bool = False
    _learner: Learner | None = None

    def learn(self, ids: NDArray[Any]) -> None:
        """Learn from what was typed, if it has at least two characters."""
        if not self.adapting or not self.checkpoint or len(ids) < FEWEST:
            return
        if self._learner is None:
            from charlstm.adaptation import Learner

            self._learner = Learner(self.checkpoint, self.config, self.config.device)
        self.sampler.set_weights(self._learner.learn(ids))

    def begin(self) -> None:
        """Start a new conversation."""
        self.sampler.begin(self.opening, seed=self.seed)


def converse(conversation: Conversation) -> None:
    """Read lines to the end of standard input, and answer each.

    Raises CharlstmError if standard input is closed.
    """
    if not isinstance(sys.stdin, io.TextIOWrapper):
        raise CharlstmError("standard input is closed", option="interactive")
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # a Python can be built without it
            import readline  # noqa: F401 - gives ``input`` its line editing and history
        tell("Type a line, and the model continues it; :help lists commands.")
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    conversation.begin()
    while (line := _ask("> " if terminal else "")) is not None:
        try:
            if line.startswith(":") and not line.startswith("::"):
                _run_command(line, conversation)
            else:
                _answer(line.removeprefix(":"), conversation)
        except CharlstmError as error:  # the conversation continues
            tell(error.line(flag))


def _ask(prompt: str) -> str | None:
    """Return the next line, or None at the end of the input; always end the prompt's line."""
    try:
        return input(prompt)
    except (EOFError, KeyboardInterrupt) as end:
        if prompt:
            write_text("\n")
        if isinstance(end, KeyboardInterrupt):
            raise
        return None


def _answer(line: str, conversation: Conversation) -> None:
    """Answer a line; after a stop text, rewind the state to the end of the text shown."""
    from charlstm.text.opening import text_in_memory

    if not is_utf8(line):
        raise CharlstmError("the line: not UTF-8", "does the terminal use another encoding?")
    sampler, config = conversation.sampler, conversation.config
    vocabulary = conversation.vocabulary
    said = text_in_memory("the line", _said(line, vocabulary))
    ids = read_and_tell(said, vocabulary, config.unknown)
    sampler.read(ids)
    conversation.learn(ids)
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
    """Append the line end of the training text to a line, unless it ends with a backslash."""
    bare = line.removesuffix("\r")
    if bare.endswith("\\"):
        return bare.removesuffix("\\")
    return bare + "".join(character for character in "\r\n" if character in vocabulary.characters)


def _run_command(line: str, conversation: Conversation) -> None:
    """Execute a command, a line that starts with a colon.

    Raises CharlstmError if there is no such command, or if its value is missing or invalid.
    """
    match line[1:].split():
        case ["reset"]:
            conversation.begin()
        case ["next"]:
            _show_next(conversation)
        case ["adapt", "on" | "off" as wanted]:
            conversation.adapting = wanted == "on"
        case ["adapt", *_]:
            raise CharlstmError(":adapt: say on or off", ":help shows the commands")
        case ["help"]:
            tell(HELP)
        case ["temperature" | "length" as name, value]:
            config = conversation.config
            conversation.config = replace(config, **{name: _value(name, value, config)})
        case ["temperature" | "length" as name]:
            raise CharlstmError(f":{name}: its value is missing", ":help shows the commands")
        case _:
            raise CharlstmError(f"{line.rstrip()}: no such command", ":help shows the commands")


def _value(name: str, text: str, config: SampleConfig) -> Any:
    """Convert the value typed for an option.

    Raises CharlstmError if it is invalid.
    """
    (item,) = (item for item in options(SampleConfig) if item.name == name)
    try:
        value: Any = click.FLOAT(text) if item.kind is float else text
    except click.BadParameter as error:
        raise CharlstmError(f":{name}: {error.message}") from None
    problem = item.problem(value)
    if name == "length" and (problem or value == "inf"):
        problem = "must be a whole number of at most 15 digits: every answer must end"
    if value == 0 and {config.top_k, config.top_p, config.min_p} != {None}:
        problem = "0 always takes the likeliest, so --top-k, --top-p and --min-p cannot apply"
    if problem:
        raise CharlstmError(f":{name}: {problem}")
    return value


def _show_next(conversation: Conversation) -> None:
    """Show the most likely next characters, with the probabilities of the model's softmax."""
    from charlstm.text.vocabulary import describe

    probabilities = conversation.sampler.probabilities()[0]
    for i in (-probabilities).argsort(kind="stable")[:LIKELIEST]:
        tell(f"{probabilities[i]:8.2%}  {describe(conversation.vocabulary.characters[i])}")
