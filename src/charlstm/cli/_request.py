"""The words of ``charlstm train`` -> a request for a training, and what to say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlstm.cli._options import TYPED
from charlstm.config import DEMO

if TYPE_CHECKING:  # imports numpy, so at run time only when the command runs
    from charlstm.training.settings import Request


def request_of(context: click.Context, texts: tuple[str, ...], values: dict[str, Any]) -> Request:
    """Return the request; typed options and those of a file or a preset are kept apart."""
    from charlstm.training.settings import Request

    config = values.pop("config")
    sources = {name: context.get_parameter_source(name) for name in values}
    typed = {name: values[name] for name, source in sources.items() if source in TYPED}
    saved = {n: values[n] for n, s in sources.items() if s is ParameterSource.DEFAULT_MAP}
    return Request(texts, typed, config, saved)


def doing(request: Request) -> str:
    """Say what the command will do, as far as is known before the text is read."""
    from charlstm.run.folder import RunFolder

    text, folder = next(iter(request.texts), DEMO), request.folder
    if len(request.texts) > 1:
        text += f" and {len(request.texts) - 1:,} more"
    if request.place.resume and RunFolder(folder).exists():
        return f"resuming training on {text}, in {folder}"
    return f"training on {text}, into {folder}"
