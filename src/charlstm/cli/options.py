"""The records of ``config`` as Click options."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from charlstm.config import Option, options, presets

Record = TypeVar("Record")
Command = TypeVar("Command", bound=Callable[..., Any])


def options_of(*records: type) -> Callable[[Command], Command]:
    """Give a command the options that some records declare, in their order."""

    def decorate(command: Command) -> Command:
        for item in reversed(options(*records)):
            command = _click_option(item)(command)
        return command

    return decorate


def record_of(record: type[Record], values: dict[str, Any]) -> Record:
    """Make a record from the values of a command's options."""
    return record(**{item.name: values[item.name] for item in fields(record)})  # type: ignore[arg-type] # a dataclass, as ``options_of`` needs


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
    names = [name for name in (item.short, item.flag, item.name) if name]
    return click.option(
        *names,
        type=_type(item),
        default=item.default,
        required=item.required,
        show_default=item.default not in (None, False, "", ()),
        multiple=item.multiple,
        is_flag=item.kind is bool,
        metavar=item.metavar or None,
        help=item.help + ends,
        callback=check,
        shell_complete=COMPLETED.get(item.metavar),
    )
