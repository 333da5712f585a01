"""The records of ``config`` as Click options."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

import click

from charlstm.config import Option, options

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
        type=click.Choice(item.choices) if item.choices else item.kind,
        default=item.default,
        show_default=item.default not in (None, False, "", ()),
        multiple=item.multiple,
        is_flag=item.kind is bool,
        metavar=item.metavar or None,
        help=item.help + ends,
        callback=check,
    )
