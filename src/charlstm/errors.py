"""What can go wrong and be put right by the user. Knows nothing else."""

from collections.abc import Callable


class CharlstmError(Exception):
    """Say in one line what is wrong, where, and the way out. A bug is any other exception.

    ``hint`` is the way out; an option stands in it as its name in braces, ``{batch_size}``.
    ``option`` is the name of the option whose value is refused, if it is one. How an option is
    written is up to whoever shows the error: the command line writes ``--batch-size``.
    """

    def __init__(self, problem: str, hint: str = "", *, option: str = "") -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint
        self.option = option

    def line(self, spell: Callable[[str], str]) -> str:
        """Return the error in one line, with each option as ``spell`` writes it."""
        subject = f"{spell(self.option)}: " if self.option else ""
        return subject + self.problem + (f"; {spelled(self.hint, spell)}" if self.hint else "")

    def __str__(self) -> str:
        return self.line("`{}`".format)


def spelled(template: str, spell: Callable[[str], str]) -> str:
    """Return a text with each ``{option}`` as ``spell`` writes it."""
    return template.format_map(_Spelling(spell))


def one_line(error: BaseException) -> str:
    """Return what any exception says, in one line; if it says nothing, what it is."""
    return " ".join(str(error).split()) or type(error).__name__


class _Spelling(dict[str, str]):
    """A mapping of each name to how it is written."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, name: str) -> str:
        return self._spell(name)
