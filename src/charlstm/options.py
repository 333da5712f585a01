"""An option: its name, type, range, default and help; records of options <-> TOML.

The command line derives its options from these records. Knows neither Click nor any particular
option.
"""

import difflib
import math
import re
import reprlib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from charlstm.errors import CharlstmError

Record = TypeVar("Record")

LARGEST = 2**63  # limit of every numeric option: within the range of int64 and of floats
TOML_BYTES = 2**14  # on a hostile file, the cost of tomllib grows with the square of the size
LISTED = 30  # option names in an error message
_KINDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


@dataclass(frozen=True)
class Option:
    """One option, as the command line, TOML files and error messages need it.

    ``help`` refers to another option by its name in braces, as the hint of an error does. A
    ``negatable`` one is true or false, and has a flag for each: a preset may set it.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    low: float = -math.inf
    high: float = math.inf
    open_ends: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    metavar: str = ""
    meaning: str = ""
    heading: str = ""
    multiple: bool = False
    required: bool = False
    negatable: bool = False

    @property
    def range(self) -> str:
        """The range in words; empty if the option has none."""
        words = []
        if self.low > -math.inf:
            words.append(f"{'above' if 'low' in self.open_ends else 'at least'} {self.low}")
        if self.high < math.inf:
            words.append(f"{'below' if 'high' in self.open_ends else 'at most'} {self.high}")
        return " and ".join(words)

    def problem(self, value: Any) -> str:
        """Say what is wrong with a value; empty if it is valid."""
        if value is None and self.optional:
            return ""
        if self.multiple:
            if not isinstance(value, list | tuple):
                return f"must be a list, not {reprlib.repr(value)}"
            return next(filter(None, map(self._problem, value)), "")
        return self._problem(value)

    def _problem(self, value: Any) -> str:
        accepted = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, accepted) or (isinstance(value, bool) and self.kind is not bool):
            return f"must be {_KINDS[self.kind]}, not {reprlib.repr(value)}"
        if isinstance(value, int | float) and not self._in_range(value):
            within = self.range or "finite"
            if abs(value) >= LARGEST and self.high == math.inf:
                within += f" and below {LARGEST:.1e}"
            return f"must be {within}, not {reprlib.repr(value)}"
        if isinstance(value, str) and "\0" in value and self.metavar != "TEXT":
            return f"must not contain a NUL character, as {reprlib.repr(value)} does"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}, not {reprlib.repr(value)}"
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            return f"must be {self.meaning or self.metavar}, not {reprlib.repr(value)}"
        return ""

    def _in_range(self, value: float) -> bool:
        above = value > self.low or (value == self.low and "low" not in self.open_ends)
        below = value < self.high or (value == self.high and "high" not in self.open_ends)
        return abs(value) < LARGEST and above and below


def option(default: Any, help: str, **rest: Any) -> Any:  # noqa: A002 - Click's own name for it
    """Declare a field of a record as an option; ``rest`` are fields of Option.

    If ``default`` is MISSING, the option is required.
    """
    return field(default=default, metadata={"help": help, **rest})


def options(*records: type) -> list[Option]:
    """Return the options that the records declare, in order."""
    declared = []
    for record in records:
        hints = typing.get_type_hints(record)
        for item in fields(record):
            hint = hints[item.name]
            optional = isinstance(hint, types.UnionType)
            multiple = typing.get_origin(hint) is tuple  # tuple[kind, ...]
            kind = typing.get_args(hint)[0] if optional or multiple else hint
            required = item.default is MISSING
            default = None if required else item.default
            rest = {"multiple": multiple, "required": required, **item.metadata}
            declared.append(Option(item.name, kind, optional, default, **rest))
    return declared


def record_of(record: type[Record], values: Mapping[str, Any]) -> Record:
    """Make a record from those of ``values`` that it declares; its other options keep defaults."""
    names = [item.name for item in fields(record)]  # type: ignore[arg-type] # a record is a dataclass
    return record(**{name: values[name] for name in names if name in values})


def checked(values: Mapping[str, Any], records: Iterable[type]) -> dict[str, Any]:
    """Validate options from any source, and return them: whole numbers for floats as floats.

    Raises CharlstmError for an unknown option or an invalid value.
    """
    known = {item.name: item for item in options(*records)}
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name.replace("-", "_"), known, 1)
            keys = listed([*known], LISTED)
            hint = f"did you mean {close[0]}?" if close else f"known keys: {keys}"
            raise CharlstmError(f"unknown key {reprlib.repr(name)}", hint)
        problem = known[name].problem(value)
        if problem:
            raise CharlstmError(f"{name} {problem}")
    return {name: _exact(known[name], value) for name, value in values.items()}


def _exact(item: Option, value: Any) -> Any:
    if item.multiple:
        return tuple(value)  # TOML and JSON have lists
    return float(value) if item.kind is float and isinstance(value, int) else value


def listed(names: Sequence[str], most: int) -> str:
    """List the first ``most`` names, and say how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def read_toml(path: Path, name: str, records: Iterable[type], *, missing: str) -> dict[str, Any]:
    """Read options from a TOML file; messages call it ``name``.

    Raises CharlstmError, with file and key, for anything the records do not allow; ``missing`` is
    the hint if the file cannot be opened.
    """
    try:
        if path.is_fifo():  # reading could block forever
            raise CharlstmError(f"{name}: not a regular file")
        with path.open("rb") as file:
            content = file.read(TOML_BYTES + 1)
        if len(content) > TOML_BYTES:
            raise CharlstmError(f"{name}: too long for saved options: over {TOML_BYTES:,} bytes")
        values = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also for overlong numbers, deep nesting
        raise CharlstmError(f"{name}: not a TOML file: {error}") from None
    except OSError as error:
        raise CharlstmError(f"{name}: {error.strerror}", missing) from None
    try:
        return checked(values, records)
    except CharlstmError as error:
        raise CharlstmError(f"{name}: {error.problem}", error.hint) from None


def is_utf8(text: str) -> bool:
    """Return whether a string can be encoded as UTF-8; an argument of other bytes cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_toml(values: Mapping[str, Any]) -> str:
    """Return options as TOML, without those that are None."""
    import tomli_w

    return tomli_w.dumps({key: value for key, value in values.items() if value is not None})
