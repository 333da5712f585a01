"""Read thousands of damaged and hostile weights files: ``python tests/fuzz.py [COUNT] [SEED]``.

Each must give a model or a one-line error: no other exception, no hang, no more than 500 MB.
Workers are forked, so that a crash inside the HDF5 library ends only one of them and is counted.
"""

import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from charlstm.architecture import ModelConfig, shapes
from charlstm.errors import CharlstmError
from charlstm.run.description import DESCRIPTION, seal
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary

COUNT, BATCH, SECONDS, BYTES = 20_000, 250, 120, 500_000_000
HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**200, 10**4000, 1e308, -0.5, "", "a", "\0", "9" * 5000),
    *([], {}, [[]], {"a": {}}, ["<f4", [2**40]], ["<f4", [-1]], ["|O", [1]], ["<i8", []]),
]


def original() -> bytes:
    """Return a weights file that uses every feature of the format."""
    model, vocabulary = ModelConfig(units=5, layers=2), Vocabulary("\n abcé👩")
    numbers = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.weights.h5")
        write_checkpoint(
            path,
            Checkpoint(
                epoch=7,
                model=model,
                vocabulary=vocabulary,
                weights=shapes(model, len(vocabulary)).map(
                    lambda shape: numbers.random(shape, np.float32)
                ),
                metrics={"train_loss": 1.5, "valid_loss": None},
                position={"epoch": 7, "step": 3},
                states={"lstm/0": numbers.random((2, 5), np.float32), "optimizer/0": np.array(3)},
            ),
        )
        return path.read_bytes()


def mutant(image: bytes, seed: int) -> bytes:
    """Return the file with one kind of change, determined by the seed."""
    source = random.Random(seed)
    change = source.choice([_flipped, _flipped, _overwritten, _cut, _spliced, _described, _edited])
    return change(image, source)


def _flipped(image: bytes, source: random.Random) -> bytes:
    spoilt = bytearray(image)
    for _ in range(source.choice([1, 1, 2, 8, 64])):
        spoilt[source.randrange(len(image))] ^= 1 << source.randrange(8)
    return bytes(spoilt)


def _overwritten(image: bytes, source: random.Random) -> bytes:
    """Overwrite a few bytes with zeros or extreme values, as if in a header field."""
    spoilt, size = bytearray(image), source.choice([1, 2, 4, 8])
    place = source.randrange(len(image) - size)
    spoilt[place : place + size] = source.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * size
    return bytes(spoilt)


def _cut(image: bytes, source: random.Random) -> bytes:
    return image[: source.randrange(len(image))] + b"\0" * source.choice([0, 0, 1, 4096])


def _spliced(image: bytes, source: random.Random) -> bytes:
    """Copy a range of bytes to another offset: overwrite there, or insert."""
    start, size = source.randrange(len(image)), source.randrange(1, 600)
    to = source.randrange(len(image))
    copied = image[start : start + size]
    return image[:to] + copied + image[to + source.choice([0, len(copied)]) :]


def _described(image: bytes, source: random.Random) -> bytes:
    """Put a hostile value anywhere in the JSON, and update its checksum."""
    with h5py.File(io.BytesIO(image), "r") as file:
        description = json.loads(bytes(file[DESCRIPTION][()]))
    at: Any = description
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = source.choice(keys)
        if not isinstance(at[key], dict | list) or not at[key] or source.random() < 0.3:
            break
        at = at[key]
    at[key] = source.choice(HOSTILE)
    if isinstance(description.get("sha256"), dict):
        description["sha256"][DESCRIPTION] = seal(description)  # as an attacker would
    copy = io.BytesIO(image)
    with h5py.File(copy, "r+") as file:
        del file[DESCRIPTION]
        file[DESCRIPTION] = np.bytes_(json.dumps(description).encode("ascii"))
    return copy.getvalue()


def _edited(image: bytes, source: random.Random) -> bytes:
    """Replace or delete one object of the file, with the HDF5 library."""
    copy = io.BytesIO(image)
    with h5py.File(copy, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = source.choice(names)
        other = source.choice(names)
        del file[name]
        match source.randrange(8):
            case 0:
                file[name] = h5py.SoftLink(f"/{other}")
            case 1:
                file[name] = h5py.ExternalLink("/etc/passwd", "/x")
            case 2:
                file.create_dataset(name, (10**6,), "<f4", chunks=(10**6,), compression="gzip")
            case 3:
                file.create_dataset(name, (2**40,), "<f4", chunks=(2**10,))
            case 4:
                file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
            case 5:
                file.create_group(name)
            case 6:
                file[name] = h5py.Empty("f4")
            case _:
                pass
    return copy.getvalue()


def outcome(path: Path, content: bytes) -> str:
    """Read a file; return the outcome in one word, or the traceback of a bug."""
    path.write_bytes(content)
    try:
        read_checkpoint(path)
    except CharlstmError as refusal:
        return "refused" if "\n" not in str(refusal) else f"two lines: {refusal}"
    except Exception:  # noqa: BLE001 - fuzzing looks for these
        return traceback.format_exc()
    return "read"


def batch(seeds: range) -> Counter[str]:
    """Read the mutants of these seeds in a separate process."""
    image = original()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)  # ends a hang by a signal, like a crash
        limit = 4 * BYTES + _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        found: Counter[str] = Counter()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with tempfile.TemporaryDirectory() as folder:
            for seed in seeds:
                os.write(writing, f"at {seed}\n".encode())
                word = outcome(Path(folder, "x"), mutant(image, seed))
                found[word if len(word) < 10 else f"seed {seed}: {word}"] += 1
        if 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) > BYTES:
            found[f"too much memory in {seeds}"] += 1
        os.write(writing, (json.dumps(found) + "\n").encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status):
        return Counter({f"crashed or hung {lines[-1]}, status {status}": 1})
    return Counter(json.loads(lines[-1]))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()


def main() -> None:
    """Read the mutants and count the outcomes."""
    count, first = (int(a) for a in [*sys.argv[1:], *[str(COUNT), "0"][len(sys.argv) - 1 :]])
    found: Counter[str] = Counter()
    for start in range(first, first + count, BATCH):
        found += batch(range(start, min(start + BATCH, first + count)))
    for word, times in found.most_common():
        print(f"{times:8,}  {word}")
    sys.exit(bool(found.keys() - {"read", "refused"}))


if __name__ == "__main__":
    main()
