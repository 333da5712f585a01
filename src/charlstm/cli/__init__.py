"""The command line; the only package that prints.

This module defines the program: its commands, its exit codes and the one place that reports errors.
Nothing heavy is imported before a command runs, so that ``--help`` is fast.
"""

import atexit
import errno
import gc
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
from charlstm.cli.neurons import neurons
from charlstm.cli.sample import sample
from charlstm.cli.score import score
from charlstm.cli.show import show
from charlstm.cli.train import train
from charlstm.errors import CharlstmError
from charlstm.version import __version__


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - Click's signature
    if wanted and not context.resilient_parsing:  # not while the shell completes
        packages = ("keras", "tensorflow")
        versions = (f"{name} {version_of(name) or 'not installed'}" for name in packages)
        click.echo(f"charlstm {__version__}, {', '.join(versions)}")
        context.exit()


WRITE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # for example, a full disk
NO_TEMPORARY = "No usable temporary directory"  # Python's own message


def _place_problem(error: OSError) -> str:
    """Explain an error of the working folder, the temporary folder or stdout; empty for others."""
    if error.errno == errno.ENOENT and not _has_working_folder():
        return "the working folder has been removed; change to another one"
    if NO_TEMPORARY in str(error):
        return "no writable folder for temporary files; set TMPDIR to one"
    # Without a file name, the error is of a standard stream; other errors are reported elsewhere.
    if error.filename is None and error.errno in WRITE_ERRORS:
        discard_output()
        return f"standard output: {error.strerror}"
    return ""


def _has_working_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


class _Program(click.Group):
    """Gives a closed pipe and Ctrl+C their own exit codes; Click would exit with 1 for both."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            discard_output()
            if ctx.invoked_subcommand == "train":  # a script would take the empty output for a path
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
    """Train character language models, and generate text with them.

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
program.add_command(neurons)
program.add_command(show)
program.add_command(doctor)


def main() -> None:
    """Run the program and exit.

    Exit codes are 0, 1 for an error that the user can fix, 2 for wrong usage, and 128 + n for
    signal n (Ctrl+C: 130).
    """
    open_streams()
    _interrupt.listen()
    _collect_rarely()
    code = run()
    if _interrupt.pressed():
        # Many imports exec a string. If Ctrl+C interrupts that, Python kills itself with SIGINT at
        # exit, even if the exception has been handled.
        os._exit(code)
    sys.exit(code)


def _collect_rarely() -> None:
    """Let Python look for reference cycles less often, and not at exit.

    To look through the 270,000 objects of TensorFlow again and again took a fifth of the time of a
    short command.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return its exit code."""
    try:
        code = program.main(
            arguments,
            prog_name="charlstm",
            auto_envvar_prefix="CHARLSTM",
            standalone_mode=False,
        )
    except click.Abort:  # Ctrl+C before a command starts
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
