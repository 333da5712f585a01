"""The description of a model in its weights file: a record <-> JSON, parsed as untrusted input.

Knows no HDF5.
"""

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any

import numpy as np

from charlstm.architecture import ModelConfig
from charlstm.config import MAX_EPOCHS
from charlstm.options import options
from charlstm.text.vocabulary import CODE_POINTS, FEWEST, UNKNOWN, Vocabulary

FORMAT = 1
DESCRIPTION = "charlstm"  # dataset that holds the JSON; also the key of its checksum
RESUME = "resume"  # JSON key of the position and the states; also the group of the states
STATE_TYPES = {dtype: np.dtype(dtype) for dtype in ("<f4", "<i4", "<i8")}
STATE_NAME = re.compile(r"[a-z]+/\d+")
Kind = tuple[np.dtype[Any], tuple[int, ...]]


@dataclass(frozen=True)
class Description:
    """The description of a model in its weights file; losses are in nats.

    ``position``, in a resume file, is the position in the training from which it continues.
    """

    epoch: int
    model: ModelConfig
    vocabulary: Vocabulary
    _: KW_ONLY
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    clock: Mapping[str, Any] = field(default_factory=dict)
    position: Mapping[str, Any] | None = None

    @property
    def separator(self) -> str:
        """What ends each record of the text that the model was trained on; empty without records.

        The model knows its characters.
        """
        match self.training:
            case {"record_separator": str(separator)} if separator:
                known = set(separator) <= set(self.vocabulary.characters)
                return separator if known else ""
            case {"records": True} if "\n" in self.vocabulary.characters:
                return "\n"
        return ""

    @property
    def opening(self) -> str:
        """The default prime: a newline, or else the first character; nothing before a record."""
        return "" if self.separator else self.vocabulary.opening()


class Refused(Exception):  # noqa: N818 - a reason, in words
    """Why a file is refused; the caller adds its name."""


def to_json(description: Description, states: Mapping[str, Kind]) -> dict[str, Any]:
    """Return a description as JSON values; ``states`` has the type and shape of each state."""
    values: dict[str, Any] = {
        "format": FORMAT,
        "epoch": description.epoch,
        "model": {name: v for name, v in asdict(description.model).items() if v is not None},
        "vocabulary": description.vocabulary.characters,
        **({"unknown": True} if description.vocabulary.has_unknown else {}),
        "metrics": dict(description.metrics),
        "training": dict(description.training),
        "versions": dict(description.versions),
        "clock": dict(description.clock),
    }
    if description.position is not None:
        kinds = {name: [dtype.str, list(shape)] for name, (dtype, shape) in states.items()}
        values[RESUME] = {"position": dict(description.position), "arrays": kinds}
    return values


def parse(content: bytes) -> dict[str, Any]:
    """Parse a description and verify its checksum.

    Raises Refused.
    """
    try:
        values = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, an overlong number, deep nesting
        raise Refused("its description is not JSON") from None
    if not isinstance(values, dict):
        raise Refused("its description is not a JSON object")
    version = expect(values, "format", int)
    if version > FORMAT:
        raise Refused(
            f"format {version} needs a newer charlstm; this version reads format {FORMAT}"
        )
    if version != FORMAT:
        raise Refused(f"unknown format {version}")
    sums = expect(values, "sha256", dict)
    if sums.get(DESCRIPTION) != seal({**values, "sha256": {**sums}}):
        raise Refused("damaged: its description does not match its checksum")
    return values


def from_json(values: dict[str, Any], size: int) -> Description:
    """Return the Description of a file of ``size`` bytes from its JSON values.

    Raises Refused if any value is invalid.
    """
    model, vocabulary = _read_model(values, size)
    position = None
    if RESUME in values:
        position = expect(expect(values, RESUME, dict), "position", dict)
    return Description(
        _read_epoch(values),
        model,
        vocabulary,
        metrics=_read_metrics(values),
        training=expect(values, "training", dict),
        versions=expect(values, "versions", dict),
        clock=expect(values, "clock", dict),
        position=position,
    )


def state_kinds(values: dict[str, Any]) -> dict[str, Kind]:
    """Return the type and shape of each state, by name; empty for a file without a position.

    Raises Refused.
    """
    if RESUME not in values:
        return {}
    states: dict[str, Kind] = {}
    for name, kind in expect(expect(values, RESUME, dict), "arrays", dict).items():
        match kind:
            case [str(dtype), [*shape]] if (
                STATE_NAME.fullmatch(name)
                and dtype in STATE_TYPES
                and all(type(size) is int and 0 < size < 2**32 for size in shape)
            ):
                states[name] = STATE_TYPES[dtype], tuple(shape)
            case _:
                raise Refused(f"its description of the state {name!r} is invalid")
    return states


def _read_epoch(values: dict[str, Any]) -> int:
    epoch = expect(values, "epoch", int)
    if not 0 <= epoch <= MAX_EPOCHS:
        raise Refused(f"its epoch is out of range: {reprlib.repr(epoch)}")
    return int(epoch)


def _read_metrics(values: dict[str, Any]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = expect(values, "metrics", dict)
    for name, value in metrics.items():
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            raise Refused(f"its {reprlib.repr(name)} is {reprlib.repr(value)}, not a finite number")
    return metrics


def _read_model(values: dict[str, Any], size: int) -> tuple[ModelConfig, Vocabulary]:
    model = ModelConfig(**_read_architecture(expect(values, "model", dict), size))
    if problem := model.problem():
        raise Refused(f"its {problem[0]} {problem[1]}")
    characters = expect(values, "vocabulary", str)
    if not FEWEST <= len(characters) <= CODE_POINTS or len(set(characters)) != len(characters):
        raise Refused("its vocabulary is not a string of at least 2 distinct characters")
    has_unknown = values.get("unknown", False)
    if type(has_unknown) is not bool or (has_unknown and UNKNOWN not in characters):
        raise Refused("its vocabulary has no id for unknown characters")
    return model, Vocabulary(characters, has_unknown)


def _read_architecture(values: dict[str, Any], size: int) -> dict[str, Any]:
    known = {item.name: item for item in options(ModelConfig)}
    needed = {name for name, item in known.items() if not item.optional}
    if not needed <= values.keys() <= known.keys():
        raise Refused(f"its model has the keys {sorted(values)} instead of {sorted(needed)}")
    for name, value in values.items():
        problem = known[name].problem(value)
        if problem or (known[name].kind is int and value > size):
            raise Refused(f"its {name} {problem or 'is too large for the size of the file'}")
    return values


def expect(values: dict[str, Any], key: str, kind: type) -> Any:
    """Return the value of a key of a description.

    Raises Refused if it is missing or of another type.
    """
    value = values.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Refused(f"its description has no {key} of type {kind.__name__}")
    return value


def seal(description: dict[str, Any]) -> str:
    """Return the checksum of a description, computed without the checksum itself."""
    sums = {name: value for name, value in description["sha256"].items() if name != DESCRIPTION}
    return sha256(json.dumps({**description, "sha256": sums}, sort_keys=True).encode("ascii"))


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _no_constant(name: str) -> float:
    raise Refused(f"its description contains {name}, which is not valid JSON")
