"""The line of a result that says where it was measured."""

import platform
from importlib.metadata import version

from charlstm.hardware import processor, usable_cores


def computer(*packages: str) -> str:
    """Return the processor, its cores, and the versions of Python and of these packages."""
    versions = [f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in packages)]
    return f"{processor()}, {usable_cores()} cores; {', '.join(versions)}"
