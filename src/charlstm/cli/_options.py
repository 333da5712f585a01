"""Turn records of options into Click options; declare the options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from charlstm.errors import spelled
from charlstm.options import Option, option, options
from charlstm.presets import presets

Command = TypeVar("Command", bound=Callable[..., Any])

SHORT = {"output": "-o"}
LARGEST_SHOWN = 1000  # help omits the range of an option with a higher limit, or with none
FILE: dict[str, Any] = {"pattern": r"(?s).+", "metavar": "FILE", "meaning": "a file name"}
TYPED = {ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT}


def epoch_option(heading: str = "") -> Any:
    """Declare the option that chooses an epoch of a run."""
    pattern, metavar = r"best|last|[1-9]\d*", "best|last|N"
    help_ = "Epoch to use; best: lowest validation loss."
    return option("best", help_, pattern=pattern, metavar=metavar, heading=heading)


def json_option() -> Any:
    """Declare the option that prints JSON."""
    return option(default=False, help="Print JSON instead, for scripts.")


def flag(name: str) -> str:
    """Return the flag of an option, for example ``--batch-size``."""
    return "--" + name.replace("_", "-")


def options_of(*records: type) -> Callable[[Command], Command]:
    """Add the options that these records declare to a command, in their order."""

    def decorate(command: Command) -> Command:
        for item in reversed(options(*records)):
            command = _click_option(item)(command)
        return command

    return decorate


def typed_epoch(context: click.Context) -> str | None:
    """Return the epoch the user asked for, or None."""
    typed = context.get_parameter_source("epoch") is not ParameterSource.DEFAULT
    return str(context.params["epoch"]) if typed else None


def refuse_without(context: click.Context, needed: str, *names: str) -> None:
    """Refuse options that have no effect because the option that needs them was not given."""
    given = [name for name in names if context.get_parameter_source(name) in TYPED]
    if given and not context.params[needed]:
        raise click.UsageError(f"{flag(given[0])} is about {flag(needed)}: give that, too.")


def refuse_with(context: click.Context, other: str, *names: str) -> None:
    """Refuse options of the command line that have no effect beside another one."""
    source = context.get_parameter_source
    given = [name for name in names if source(name) is ParameterSource.COMMANDLINE]
    if given and context.params[other]:
        raise click.UsageError(f"{flag(other)} does not use {flag(given[0])}: leave that out.")


def checkpoint_and_text(command: Command) -> Command:
    """Add the arguments of a command that reads a text with a model, which may be left out."""
    metavar = "[CHECKPOINT] TEXT"
    return click.argument(
        "arguments", nargs=-1, required=True, metavar=metavar, shell_complete=complete_file
    )(command)


def split_arguments(arguments: tuple[str, ...]) -> tuple[str | None, str]:
    """Return the checkpoint, or None, and the text."""
    if len(arguments) > 2:  # noqa: PLR2004 - as the usage says
        raise click.UsageError("Give a text, or a checkpoint and a text.")
    *named, text = arguments
    return next(iter(named), None), text


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
    """Complete the name of a preset, or let the shell complete a file."""
    shipped = [CompletionItem(name) for name in presets() if name.startswith(incomplete)]
    return shipped + complete_file(context, parameter, incomplete)


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options; one without a heading joins the group of the option before it."""
        heading = "Options"
        groups: dict[str, list[tuple[str, str]]] = {}
        for option_ in self.get_params(ctx):
            if isinstance(option_, click.Option):  # rather than an argument
                heading = getattr(option_, "heading", "") or heading
                entry = option_.get_help_record(ctx)
                groups.setdefault(heading, []).extend([entry] if entry else [])
        for title, entries in groups.items():
            with formatter.section(title):
                formatter.write_dl(entries)


class _Option(click.Option):
    """A Click option with the heading of its group, and its range in words."""

    def __init__(self, *names: Any, item: Option, **settings: Any) -> None:
        self.heading = item.heading
        # "at least 1" or "at most 4294967295" would only clutter the help.
        self._range = item.range if item.high <= LARGEST_SHOWN else ""
        super().__init__(*names, **settings)

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        return {**extra, "range": self._range} if self._range else extra


class _UnsplitText(click.types.StringParamType):
    """The type of a repeatable text: Click would split one from the environment at its blanks."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


COMPLETED = {"DIR": complete_folder, "CHECKPOINT": complete_file}


def _type(item: Option) -> Any:  # a type in Click's sense
    if item.choices:
        return click.Choice(item.choices)
    return _UnsplitText() if item.multiple else item.kind


def _click_option(item: Option) -> Callable[[Command], Command]:
    def check(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
        problem = item.problem(value)
        if problem:
            raise click.BadParameter(problem)
        return value

    flags = flag(item.name) + (f"/--no{flag(item.name)[1:]}" if item.negatable else "")
    names = [name for name in (SHORT.get(item.name), flags, item.name) if name]
    default = {} if item.required else {"default": item.default}
    return click.option(
        *names,
        cls=_Option,
        item=item,
        type=_type(item),
        **default,
        required=item.required,
        show_default=item.default not in (None, False, "", ()),
        multiple=item.multiple,
        is_flag=item.kind is bool,
        metavar=item.metavar or None,
        help=spelled(item.help, flag),
        callback=check,
        shell_complete=COMPLETED.get(item.metavar),
    )
