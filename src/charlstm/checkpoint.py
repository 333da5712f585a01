"""The weights file: its layout, how it is written, and how it is read as untrusted input.

The layout is that of Keras's own ``.weights.h5`` files, plus one dataset, ``charlstm``, that
describes the model in JSON. It is handed arrays, not layers. Knows no run folders.
"""

import hashlib
import io
import json
import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from charlstm.config import MAX_EPOCHS, ModelConfig, options
from charlstm.errors import CharlstmError
from charlstm.vocabulary import CODE_POINTS, FEWEST, Vocabulary

FORMAT = 1
DESCRIPTION = "charlstm"  # the name of the dataset that holds the JSON
RESUME = "resume"  # the group of the states, and its key in the JSON
# Of each cell: Keras's name of its layers, its gates, the rows of its bias.
LAYERS: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "lstm": ("lstm", 4, ()),
    "gru": ("gru", 3, (2,)),
    "rnn": ("simple_rnn", 1, ()),
}
FLOAT32 = np.dtype("<f4")
STATE_TYPES = {dtype: np.dtype(dtype) for dtype in ("<f4", "<i4", "<i8")}
STATE_NAME = re.compile(r"[a-z]+/\d+")
Kind = tuple[np.dtype[Any], tuple[int, ...]]
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What HDF5 itself may need for groups and headers, for each dataset and in all.
BYTES_PER_DATASET, BYTES_IN_ALL = 4096, 65536
DESCRIPTION_BYTES = 2**24  # Unicode whole as a vocabulary needs 13 million


@dataclass(frozen=True)
class Resume:
    """What a training needs beside the weights to go on as if it had never stopped.

    ``position`` says where it is, for JSON; ``arrays`` are its states, by name.
    """

    position: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """A weights file in memory. ``arrays`` are in the order of ``layout``."""

    epoch: int
    model: ModelConfig
    vocabulary: Vocabulary
    arrays: list[NDArray[np.float32]]
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    clock: Mapping[str, Any] = field(default_factory=dict)
    resume: Resume | None = None


def layout(model: ModelConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Return path -> shape of each array of a weights file, as Keras lays it out.

    Of each recurrent layer: kernel (V or U, nU), recurrent kernel (U, nU), bias (nU), where n
    gates lie side by side: of an LSTM input, forget, cell, output; of a GRU update, reset, new,
    and two biases, of the input and of the recurrent product (2, nU); of an RNN the one. Of the
    dense layer: kernel (U, V), bias (V).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    units, inputs = model.units, vocab_size
    kind, gates, biases = LAYERS[model.cell]
    for layer in range(model.layers):
        name = f"layers/{kind}_{layer}" if layer else f"layers/{kind}"
        shapes[f"{name}/cell/vars/0"] = (inputs, gates * units)
        shapes[f"{name}/cell/vars/1"] = (units, gates * units)
        shapes[f"{name}/cell/vars/2"] = (*biases, gates * units)
        inputs = units
    shapes["layers/dense/vars/0"] = (units, vocab_size)
    shapes["layers/dense/vars/1"] = (vocab_size,)
    return shapes


def parameters(model: ModelConfig, vocab_size: int) -> int:
    """Return the number of weights of a model."""
    return sum(map(math.prod, layout(model, vocab_size).values()))


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file so that at every moment the old or the new one is there."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a weights file."""
    shapes = layout(checkpoint.model, len(checkpoint.vocabulary))
    arrays: dict[str, NDArray[Any]] = dict(zip(shapes, checkpoint.arrays, strict=True))
    assert all(array.shape == shapes[name] for name, array in arrays.items())
    more: dict[str, Any] = {}
    if checkpoint.resume:
        arrays |= {f"{RESUME}/{name}": array for name, array in checkpoint.resume.arrays.items()}
        more[RESUME] = {
            "position": dict(checkpoint.resume.position),
            "arrays": {
                name: [array.dtype.str, list(array.shape)]
                for name, array in checkpoint.resume.arrays.items()
            },
        }
    description: dict[str, Any] = {
        "format": FORMAT,
        "epoch": checkpoint.epoch,
        "model": {name: v for name, v in asdict(checkpoint.model).items() if v is not None},
        "vocabulary": checkpoint.vocabulary.characters,
        "metrics": dict(checkpoint.metrics),
        "training": dict(checkpoint.training),
        "versions": dict(checkpoint.versions),
        "clock": dict(checkpoint.clock),
        **more,
        "sha256": {name: _sha256(array.tobytes()) for name, array in arrays.items()},
    }
    description["sha256"][DESCRIPTION] = _seal(description)
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, dtype=array.dtype)
        # A fixed-length string: variable ones live where a damaged file has crashed the library.
        file.create_dataset(DESCRIPTION, data=np.bytes_(json.dumps(description).encode("ascii")))
    write_file(path, image.getvalue())


def read(path: Path, *, arrays: bool = True) -> Checkpoint:
    """Read a weights file, trusting nothing in it; or all of it but its arrays, which takes long.

    Raises CharlstmError for a file that is not ours, cut short, of a newer format, damaged, or
    whose contents do not fit its own description.
    """
    _check_signature(path)
    try:
        # The driver is named since the environment can name another.
        with h5py.File(path, "r", driver="sec2", locking=False) as file:
            return _read_checkpoint(file, file.id.get_filesize(), read_arrays=arrays)
    except _Refused as reason:
        raise CharlstmError(f"{path}: {reason}") from None
    except MemoryError:
        raise CharlstmError(f"{path}: its model is too large for the memory here") from None
    # What h5py raises for a damaged structure; which of them is an accident of its internals.
    except (OSError, RuntimeError, KeyError, OverflowError) as error:
        raise CharlstmError(f"{path}: damaged or cut short: {_one_line(error)}") from None


class _Refused(Exception):  # noqa: N818 - a reason, in words
    """Why a file is not taken; the caller adds its name."""


def _check_signature(path: Path) -> None:
    """Refuse what HDF5 need not look at; it also allows other content in front of its own."""
    if path.exists() and not path.is_file():  # nothing comes out of a pipe, perhaps for ever
        raise CharlstmError(f"{path}: not a file")
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    except OSError as error:
        raise CharlstmError(f"{path}: {error.strerror}") from None
    if start != HDF5_SIGNATURE:
        raise CharlstmError(f"{path}: not a weights file of charlstm")


def _read_checkpoint(file: h5py.File, size: int, *, read_arrays: bool) -> Checkpoint:
    description = _read_description(file)
    model, vocabulary = _read_model(description, size)
    shapes = layout(model, len(vocabulary))
    expected = {name: (FLOAT32, shape) for name, shape in shapes.items()}
    resume = _read_resume(description)
    expected |= {f"{RESUME}/{name}": kind for name, kind in resume.items()}
    needed = sum(_bytes(dtype, shape) for dtype, shape in expected.values())
    slack = BYTES_IN_ALL + BYTES_PER_DATASET * len(expected)
    slack += file[DESCRIPTION].id.get_type().get_size()
    if not needed <= size <= needed + slack:
        raise _Refused(f"{size:,} bytes do not fit its description, which needs {needed:,}")
    _check_names(file, {DESCRIPTION, *expected})
    sums = _expect(description, "sha256", dict)
    arrays = {
        name: _read_array(file, name, kind, sums.get(name))
        for name, kind in expected.items()
        if read_arrays
    }
    epoch = _expect(description, "epoch", int)
    if not 0 <= epoch <= MAX_EPOCHS:
        raise _Refused(f"its epoch is {reprlib.repr(epoch)}")
    metrics = _expect(description, "metrics", dict)
    for name, value in metrics.items():
        if value is not None and not (isinstance(value, float) and math.isfinite(value)):
            raise _Refused(f"its {reprlib.repr(name)} is {reprlib.repr(value)}, no loss")
    return Checkpoint(
        epoch=epoch,
        model=model,
        vocabulary=vocabulary,
        arrays=[arrays[name] for name in shapes if read_arrays],
        metrics=metrics,
        training=_expect(description, "training", dict),
        versions=_expect(description, "versions", dict),
        clock=_expect(description, "clock", dict),
        resume=Resume(
            _expect(description[RESUME], "position", dict),
            {name: arrays[f"{RESUME}/{name}"] for name in resume if read_arrays},
        )
        if RESUME in description
        else None,
    )


def _read_resume(description: dict[str, Any]) -> dict[str, Kind]:
    """Return the types and shapes of the states, as the description has them."""
    if RESUME not in description:
        return {}
    found: dict[str, Kind] = {}
    for name, kind in _expect(_expect(description, RESUME, dict), "arrays", dict).items():
        match kind:
            case [str(dtype), [*shape]] if (
                STATE_NAME.fullmatch(name)
                and dtype in STATE_TYPES
                and all(type(size) is int and 0 < size < 2**32 for size in shape)
            ):
                found[name] = STATE_TYPES[dtype], tuple(shape)
            case _:
                raise _Refused(f"its state {name!r} is not described as one")
    return found


def _bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _read_description(file: h5py.File) -> dict[str, Any]:
    if not isinstance(file.get(DESCRIPTION, getlink=True), h5py.HardLink):
        raise _Refused("an HDF5 file, but not a weights file of charlstm")
    dataset = file[DESCRIPTION]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != () or not _is_text(dataset):
        raise _Refused("its description is not a string")
    if dataset.id.get_type().get_size() > DESCRIPTION_BYTES:
        raise _Refused("its description is longer than any can be")
    _check_storage(dataset, DESCRIPTION)
    try:
        description = json.loads(bytes(dataset[()]), parse_constant=_no_constant)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, a number too long, lists in lists
        raise _Refused("its description is not JSON") from None
    if not isinstance(description, dict):
        raise _Refused("its description is not a JSON object")
    version = _expect(description, "format", int)
    if version > FORMAT:
        raise _Refused(f"format {version}, written by a newer charlstm; this one reads {FORMAT}")
    if version != FORMAT:
        raise _Refused(f"unknown format {version}")
    sums = _expect(description, "sha256", dict)
    if sums.get(DESCRIPTION) != _seal({**description, "sha256": {**sums}}):
        raise _Refused("damaged: its description does not match its checksum")
    return description


def _read_model(description: dict[str, Any], size: int) -> tuple[ModelConfig, Vocabulary]:
    values = dict(_expect(description, "model", dict))
    known = {item.name: item for item in options(ModelConfig)}
    needed = {name for name, item in known.items() if not item.optional}
    if not needed <= values.keys() <= known.keys():
        raise _Refused(f"its model has {sorted(values)} where {sorted(needed)} belong")
    for name, value in values.items():
        problem = known[name].problem(value)
        if problem or (known[name].kind is int and value > size):
            raise _Refused(f"its {name} {problem or 'is larger than the file'}")
    model = ModelConfig(**values)
    if model.problem():
        raise _Refused(f"its {model.problem()}")
    characters = _expect(description, "vocabulary", str)
    if not FEWEST <= len(characters) <= CODE_POINTS or len(set(characters)) != len(characters):
        raise _Refused("its vocabulary is not two or more distinct characters")
    return model, Vocabulary(characters)


def _check_names(file: h5py.File, expected: set[str]) -> None:
    """Refuse all but the expected datasets, hard links only, nothing else below or beside them.

    Empty groups are allowed where Keras writes them.
    """
    left, groups = set(expected), [("", file)]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            if not isinstance(key, str):  # h5py returns bytes for a name that is not UTF-8
                raise _Refused("it has a name that is not UTF-8")
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _Refused(f"{name} is a link")
            if name in left:
                left.remove(name)
            elif any(path.startswith(f"{name}/") for path in expected) and isinstance(
                group.get(key), h5py.Group
            ):
                groups.append((f"{name}/", group[key]))
            else:
                raise _Refused(f"{name} does not belong in it")
    if left:
        raise _Refused(f"{min(left)} is missing")


def _read_array(file: h5py.File, name: str, kind: Kind, checksum: Any) -> NDArray[Any]:
    dtype, shape = kind
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise _Refused(f"{name} is not an array")
    # Types are compared inside HDF5: numpy has no equal for every type a file can hold.
    if dataset.shape != shape or dataset.id.get_type() != h5py.h5t.py_create(dtype):
        raise _Refused(f"{name} is not {dtype} {shape}, which its description needs")
    _check_storage(dataset, name)
    array: NDArray[Any] = np.asarray(dataset[()], dtype)
    if _sha256(array.tobytes()) != checksum:
        raise _Refused(f"damaged: {name} does not match its checksum")
    if not np.isfinite(array).all():
        raise _Refused(f"{name} has values that are not finite")
    return array


def _is_text(dataset: h5py.Dataset) -> bool:
    kind = dataset.id.get_type()
    known = (h5py.h5t.CSET_ASCII, h5py.h5t.CSET_UTF8)  # h5py fails at others, late
    is_string = isinstance(kind, h5py.h5t.TypeStringID)
    return is_string and not kind.is_variable_str() and kind.get_cset() in known


def _check_storage(dataset: h5py.Dataset, name: str) -> None:
    """Refuse storage that could be larger in memory than in the file, or outside of it."""
    plist = dataset.id.get_create_plist()
    plain = plist.get_nfilters() == 0 and plist.get_external_count() == 0
    if not plain or plist.get_layout() != h5py.h5d.CONTIGUOUS:
        raise _Refused(f"{name} is not stored plainly")


def _expect(description: dict[str, Any], key: str, kind: type) -> Any:
    value = description.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Refused(f"its description has no {key} that is {kind.__name__}")
    return value


def _seal(description: dict[str, Any]) -> str:
    """Return the checksum of a description, its own left out."""
    sums = {name: value for name, value in description["sha256"].items() if name != DESCRIPTION}
    return _sha256(json.dumps({**description, "sha256": sums}, sort_keys=True).encode("ascii"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _no_constant(name: str) -> float:
    raise _Refused(f"its description has {name} for a number")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
