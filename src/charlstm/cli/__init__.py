"""Words on the command line <-> calls; the only room that prints.

This module is the program: its commands, its exit codes, its one boundary for errors. Nothing
heavy is imported before a command runs, so that ``--help`` is fast.
"""

import contextlib
import os
import signal
import sys
from importlib import metadata

import click

from charlstm import __version__
from charlstm.cli.sample import sample
from charlstm.cli.train import train
from charlstm.errors import CharlstmError


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - Click's signature
    if wanted:
        versions = (f"{name} {metadata.version(name)}" for name in ("keras", "tensorflow"))
        click.echo(f"charlstm {__version__}, {', '.join(versions)}")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    """


program.add_command(train)
program.add_command(sample)


def main() -> None:
    """Run the program and exit: 0, 1 for what a user can fix, 2 for usage, 130 for Ctrl+C."""
    sys.exit(_run())


def _run() -> int:
    try:
        code = program.main(
            prog_name="charlstm", auto_envvar_prefix="CHARLSTM", standalone_mode=False
        )
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_pipe()
        return 0
    except (KeyboardInterrupt, click.Abort):
        click.echo("charlstm: interrupted", err=True)
        return 128 + signal.SIGINT
    except CharlstmError as error:
        click.echo(f"charlstm: {error}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0


def _leave_pipe() -> None:
    """Let nothing more be written where nobody reads, not even when Python exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, sys.stdout.fileno())
