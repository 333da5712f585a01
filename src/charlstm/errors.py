"""Errors that a user can fix. Imports nothing else of the package."""

from collections.abc import Callable


class CharlstmError(Exception):
    """Say in one line what is wrong, where, and how to fix it. Any other exception is a bug.

    ``hint`` says how to fix it and refers to an option by its name in braces, ``{batch_size}``.
    ``option`` is the name of the option whose value is invalid, if there is one. The caller that
    shows the error decides how to write an option: the command line writes ``--batch-size``.
    """

    def __init__(self, problem: str, hint: str = "", *, option: str = "") -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint
        self.option = option

    def line(self, spell: Callable[[str], str]) -> str:
        """Return the error as one line; ``spell`` writes the names of options."""
        subject = f"{spell(self.option)}: " if self.option else ""
        return subject + self.problem + (f"; {spelled(self.hint, spell)}" if self.hint else "")

    def __str__(self) -> str:
        return self.line("`{}`".format)


def spelled(template: str, spell: Callable[[str], str]) -> str:
    """Return ``template`` with each ``{option}`` replaced by ``spell(option)``."""
    return template.format_map(_Spelling(spell))


def literal(text: str) -> str:
    """Escape a text, such as a file name, for a hint, where braces enclose options."""
    return text.replace("{", "{{").replace("}", "}}")


def one_line(error: BaseException) -> str:
    """Return the message of any exception as one line, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


class _Spelling(dict[str, str]):
    """Map every name to its spelling."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def __missing__(self, name: str) -> str:
        return self._spell(name)
