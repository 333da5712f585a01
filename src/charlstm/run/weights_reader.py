"""Read a weights file as untrusted input: it must match its description exactly.

Knows no run folders.
"""

import contextlib
import math
import stat
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from charlstm.architecture import Weights
from charlstm.errors import CharlstmError, one_line
from charlstm.files import read_errors
from charlstm.run.description import (
    DESCRIPTION,
    RESUME,
    Description,
    Kind,
    Refused,
    from_json,
    parse,
    sha256,
    state_kinds,
)
from charlstm.run.weights import Checkpoint, layout, paths

FLOAT32 = np.dtype("<f4")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Allowance for HDF5's own groups and headers: for each dataset, and for the file.
BYTES_PER_DATASET, BYTES_IN_ALL = 4096, 65536
DESCRIPTION_BYTES = 2**24  # a vocabulary of all of Unicode needs 13 million


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file and validate all of it.

    Raises CharlstmError for a file that charlstm did not write, that is truncated, damaged or of a
    newer format, or whose contents do not match its description.
    """
    with _opened(path) as file:
        description, expected, sums = _read_description(file)
        arrays = {n: _read_array(file, n, kind, sums.get(n)) for n, kind in expected.items()}
    weights = Weights.of(arrays[name] for name in paths(description.model))
    states = {
        name.removeprefix(f"{RESUME}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{RESUME}/")
    }
    # Not asdict, which would copy nested values.
    values = {item.name: getattr(description, item.name) for item in fields(description)}
    return Checkpoint(**values, weights=weights, states=states)


def read_description(path: Path) -> Description:
    """Read the description in a weights file, without the arrays, which take long to read.

    Raises CharlstmError as ``read_checkpoint`` does, except for errors within the arrays.
    """
    with _opened(path) as file:
        description, _, _ = _read_description(file)
    return description


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open an untrusted file; turn any error while reading it into a one-line error.

    Raises CharlstmError.
    """
    _check_signature(path)
    try:
        # Name the driver: an environment variable can change the default.
        with h5py.File(path, "r", driver="sec2", locking=False) as file:
            yield file
    except Refused as reason:
        raise CharlstmError(f"{path}: {reason}") from None
    except MemoryError:
        raise CharlstmError(f"{path}: not enough memory to read its model") from None
    # h5py raises any of these for a damaged structure, depending on its internals.
    except (OSError, RuntimeError, KeyError, OverflowError) as error:
        raise CharlstmError(f"{path}: damaged or truncated: {one_line(error)}") from None


def _check_signature(path: Path) -> None:
    """Refuse files that do not start as HDF5; the library would search the file for its signature.

    Raises CharlstmError.
    """
    with read_errors(path):
        if not stat.S_ISREG(path.stat().st_mode):  # reading from a pipe could block forever
            raise CharlstmError(f"{path}: not a regular file")
        with path.open("rb") as file:
            start = file.read(len(HDF5_SIGNATURE))
    if start != HDF5_SIGNATURE:
        raise CharlstmError(f"{path}: not a charlstm weights file")


def _read_description(file: h5py.File) -> tuple[Description, dict[str, Kind], dict[str, Any]]:
    """Return the description, the type and shape of each array it requires, and the checksums."""
    size = file.id.get_filesize()
    values = parse(_description_of(file))
    description = from_json(values, size)
    shapes = layout(description.model, len(description.vocabulary))
    expected: dict[str, Kind] = {name: (FLOAT32, shape) for name, shape in shapes.items()}
    expected |= {f"{RESUME}/{name}": kind for name, kind in state_kinds(values).items()}
    needed = sum(_bytes(dtype, shape) for dtype, shape in expected.values())
    slack = BYTES_IN_ALL + BYTES_PER_DATASET * len(expected)
    slack += file[DESCRIPTION].id.get_type().get_size()
    if not needed <= size <= needed + slack:
        raise Refused(f"its {size:,} bytes do not fit its description, which needs {needed:,}")
    _check_names(file, {DESCRIPTION, *expected})
    return description, expected, values["sha256"]


def _bytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    return dtype.itemsize * math.prod(shape)


def _description_of(file: h5py.File) -> bytes:
    """Return the contents of the dataset that describes the model."""
    if not isinstance(file.get(DESCRIPTION, getlink=True), h5py.HardLink):
        raise Refused("an HDF5 file, but not a charlstm weights file")
    dataset = file[DESCRIPTION]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape != () or not _is_text(dataset):
        raise Refused("its description is not a string")
    if dataset.id.get_type().get_size() > DESCRIPTION_BYTES:
        raise Refused(f"its description is longer than {DESCRIPTION_BYTES:,} bytes")
    _check_storage(dataset, DESCRIPTION)
    return bytes(dataset[()])


def _check_names(file: h5py.File, expected: set[str]) -> None:
    """Refuse a file with any dataset missing or unexpected, or with links other than hard links.

    Empty groups are allowed where Keras writes them.
    """
    left, groups = set(expected), [("", file)]
    while groups:
        prefix, group = groups.pop()
        for key in group:
            if not isinstance(key, str):  # h5py returns bytes for a name that is not UTF-8
                raise Refused("one of its names is not UTF-8")
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise Refused(f"{name} is a link")
            if name in left:
                left.remove(name)
            elif any(path.startswith(f"{name}/") for path in expected) and isinstance(
                group.get(key), h5py.Group
            ):
                groups.append((f"{name}/", group[key]))
            else:
                raise Refused(f"{name} does not belong in it")
    if left:
        raise Refused(f"{min(left)} is missing")


def _read_array(file: h5py.File, name: str, kind: Kind, checksum: Any) -> NDArray[Any]:
    dtype, shape = kind
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise Refused(f"{name} is not an array")
    # Compare types within HDF5: numpy cannot represent every type that a file can hold.
    if dataset.shape != shape or dataset.id.get_type() != h5py.h5t.py_create(dtype):
        raise Refused(f"{name} is not {dtype} {shape}, as its description requires")
    _check_storage(dataset, name)
    array: NDArray[Any] = np.asarray(dataset[()], dtype)
    if sha256(array.tobytes()) != checksum:
        raise Refused(f"damaged: {name} does not match its checksum")
    if not np.isfinite(array).all():
        raise Refused(f"{name} has values that are not finite")
    return array


def _is_text(dataset: h5py.Dataset) -> bool:
    kind = dataset.id.get_type()
    known = (h5py.h5t.CSET_ASCII, h5py.h5t.CSET_UTF8)  # h5py fails late on others
    is_string = isinstance(kind, h5py.h5t.TypeStringID)
    return is_string and not kind.is_variable_str() and kind.get_cset() in known


def _check_storage(dataset: h5py.Dataset, name: str) -> None:
    """Refuse datasets that could be larger in memory than in the file, or stored outside it."""
    plist = dataset.id.get_create_plist()
    plain = plist.get_nfilters() == 0 and plist.get_external_count() == 0
    if not plain or plist.get_layout() != h5py.h5d.CONTIGUOUS:
        raise Refused(f"{name} is not stored in one uncompressed block")
