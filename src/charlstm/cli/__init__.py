"""Words on the command line <-> calls; the only room that prints.

This module is the program: its commands, its exit codes, its one boundary for errors. Nothing
heavy is imported before a command runs, so that ``--help`` is fast.
"""

import contextlib
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from charlstm import __version__
from charlstm.cli import interrupt
from charlstm.cli.doctor import doctor
from charlstm.cli.export import export
from charlstm.cli.sample import sample
from charlstm.cli.score import score
from charlstm.cli.show import show
from charlstm.cli.train import train
from charlstm.errors import CharlstmError


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - Click's signature
    if wanted and not context.resilient_parsing:  # which completes what is being typed
        versions = (f"{name} {metadata.version(name)}" for name in ("keras", "tensorflow"))
        click.echo(f"charlstm {__version__}, {', '.join(versions)}")
        context.exit()


class _Program(click.Group):
    """A closed pipe and Ctrl+C have exit codes of their own; Click would make both 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Let nothing more be written where nobody reads, not even when Python exits.
            with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            ctx.exit(0)
        except BaseException:
            if not interrupt.pressed():
                raise
            click.echo("charlstm: interrupted", err=True)
            ctx.exit(interrupt.exit_code())
        return result


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the versions of charlstm, Keras and TensorFlow.",
)
def program() -> None:
    """Train a character language model on any text, and let it write.

    \b
    charlstm train input.txt
    charlstm sample --prime "LSTM based"
    charlstm score held-out.txt
    charlstm export --format onnx -o model.onnx
    """


program.add_command(train)
program.add_command(sample)
program.add_command(score)
program.add_command(export)
program.add_command(show)
program.add_command(doctor)


def main() -> None:
    """Run the program and exit.

    0, 1 for what a user can fix, 2 for usage, 130 for Ctrl+C, 143 for SIGTERM.
    """
    code = _run()
    if interrupt.pressed():
        # Where Ctrl+C meets the exec of a string, of which imports are full, Python remembers it
        # and ends by the signal, whatever was made of the exception since.
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    interrupt.listen()
    try:
        code = program.main(
            prog_name="charlstm", auto_envvar_prefix="CHARLSTM", standalone_mode=False
        )
    except click.Abort:  # Ctrl+C before there is a command
        return interrupt.exit_code()
    except CharlstmError as error:
        click.echo(f"charlstm: {error}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0
