"""The records of options as Click options; the options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from charlstm.config import presets
from charlstm.errors import spelled
from charlstm.options import Option, option, options

Command = TypeVar("Command", bound=Callable[..., Any])

SHORT = {"output": "-o"}
FILE: dict[str, Any] = {"pattern": r"(?s).+", "metavar": "FILE", "meaning": "a file's name"}
TYPED = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}


def epoch_option() -> Any:
    """Declare the option of which epoch of a run is meant."""
    pattern, metavar = r"best|last|[1-9]\d*", "best|last|N"
    return option("best", "Which of the run's epochs.", pattern=pattern, metavar=metavar)


def json_option() -> Any:
    """Declare the option to print JSON."""
    return option(default=False, help="Print JSON, for scripts.")


def flag(name: str) -> str:
    """Return an option as it is typed, for example ``--batch-size``."""
    return "--" + name.replace("_", "-")


def options_of(*records: type) -> Callable[[Command], Command]:
    """Give a command the options that these records declare, in their order."""

    def decorate(command: Command) -> Command:
        for item in reversed(options(*records)):
            command = _click_option(item)(command)
        return command

    return decorate


def typed_epoch(context: click.Context) -> str | None:
    """Return the epoch that was asked for; None if none was."""
    typed = context.get_parameter_source("epoch") is not ParameterSource.DEFAULT
    return str(context.params["epoch"]) if typed else None


def complete_file(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a file or a folder."""
    return [CompletionItem(incomplete, type="file")]


def complete_folder(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete a folder."""
    return [CompletionItem(incomplete, type="dir")]


def complete_config(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a shipped configuration; or else let the shell complete a file."""
    shipped = [CompletionItem(name) for name in presets() if name.startswith(incomplete)]
    return shipped + complete_file(context, parameter, incomplete)


class _Whole(click.types.StringParamType):
    """A text that is one value in the environment, too: Click would split it at its blanks."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


COMPLETED = {"DIR": complete_folder, "CHECKPOINT": complete_file}


def _type(item: Option) -> Any:  # what Click calls a type
    if item.choices:
        return click.Choice(item.choices)
    return _Whole() if item.multiple else item.kind


def _click_option(item: Option) -> Callable[[Command], Command]:
    def check(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
        problem = item.problem(value)
        if problem:
            raise click.BadParameter(problem)
        return value

    ends = f"  [{item.range}]" if item.range else ""
    names = [name for name in (SHORT.get(item.name), flag(item.name), item.name) if name]
    default = {} if item.required else {"default": item.default}
    return click.option(
        *names,
        type=_type(item),
        **default,
        required=item.required,
        show_default=item.default not in (None, False, "", ()),
        multiple=item.multiple,
        is_flag=item.kind is bool,
        metavar=item.metavar or None,
        help=spelled(item.help, flag) + ends,
        callback=check,
        shell_complete=COMPLETED.get(item.metavar),
    )
