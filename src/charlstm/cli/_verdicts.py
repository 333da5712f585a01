"""``charlstm show --verify``: check the files of a run for damage."""

import json
from pathlib import Path

import click

from charlstm.errors import CharlstmError
from charlstm.text.display import visible


def show_verdicts(named: str | None, *, as_json: bool) -> None:
    """Check each file of a run, and print the verdicts.

    Raises CharlstmError if a file is damaged.
    """
    from charlstm.run.find import find_run
    from charlstm.run.verification import verify

    place = find_run(named)
    path = place if isinstance(place, Path) else place.path
    verdicts = list(verify(place))
    if as_json:
        click.echo(json.dumps({verdict.name: verdict.problem or None for verdict in verdicts}))
    else:
        width = max(len(verdict.name) for verdict in verdicts)
        for verdict in verdicts:
            click.echo(f"{visible(verdict.name):{width}}  {visible(verdict.problem) or 'intact'}")
    damaged = sum(bool(verdict.problem) for verdict in verdicts)
    if damaged:
        raise CharlstmError(f"{path}: {damaged} of {len(verdicts)} files damaged")
