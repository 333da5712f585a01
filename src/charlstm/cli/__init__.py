"""Words on the command line <-> calls; the only room that prints.

This module is the program: its commands, its exit codes, its one boundary for errors. Nothing
heavy is imported before a command runs, so that ``--help`` is fast.
"""

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from charlstm.cli import _interrupt
from charlstm.cli._options import flag
from charlstm.cli._stdio import discard_output, open_streams, tell
from charlstm.cli._versions import version_of
from charlstm.cli.doctor import doctor
from charlstm.cli.export import export
from charlstm.cli.sample import sample
from charlstm.cli.score import score
from charlstm.cli.show import show
from charlstm.cli.train import train
from charlstm.errors import CharlstmError
from charlstm.version import __version__


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - Click's signature
    if wanted and not context.resilient_parsing:  # which completes what is being typed
        packages = ("keras", "tensorflow")
        versions = (f"{name} {version_of(name) or 'not installed'}" for name in packages)
        click.echo(f"charlstm {__version__}, {', '.join(versions)}")
        context.exit()


UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # as of a full disk
NO_TEMPORARY = "No usable temporary directory"  # as Python itself says it


def _place_problem(error: OSError) -> str:
    """Say what is wrong with the place that the program runs in; empty if it is something else."""
    if error.errno == errno.ENOENT and not _has_working_folder():
        return "the working folder has been removed; change to another one"
    if NO_TEMPORARY in str(error):
        return "no folder for temporary files; name one in TMPDIR"
    # Of files, all say what went wrong by themselves.
    if error.filename is None and error.errno in UNWRITTEN:
        discard_output()
        return f"standard output: {error.strerror}"
    return ""


def _has_working_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


class _Program(click.Group):
    """A closed pipe and Ctrl+C have exit codes of their own; Click would make both 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            discard_output()
            if ctx.invoked_subcommand == "train":  # a script would take nothing for a path
                raise CharlstmError(f"standard output: {error.strerror}") from None
            ctx.exit(0)
        except BaseException:
            if not _interrupt.pressed():
                raise
            tell("charlstm: interrupted")
            ctx.exit(_interrupt.exit_code())
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

    0, 1 for what a user can fix, 2 for usage, 128 and more for a signal: 130 is Ctrl+C.
    """
    open_streams()
    _interrupt.listen()
    code = run()
    if _interrupt.pressed():
        # Where Ctrl+C meets the exec of a string, of which imports are full, Python remembers it
        # and ends by the signal, whatever was made of the exception since.
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, or else that of the process; return its exit code."""
    try:
        code = program.main(
            arguments,
            prog_name="charlstm",
            auto_envvar_prefix="CHARLSTM",
            standalone_mode=False,
        )
    except click.Abort:  # Ctrl+C before there is a command
        return _interrupt.exit_code()
    except CharlstmError as error:
        tell(f"charlstm: {error.line(flag)}")
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        problem = _place_problem(error)
        if not problem:
            raise
        tell(f"charlstm: {problem}")
        return 1
    return code if isinstance(code, int) else 0
