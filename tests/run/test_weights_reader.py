import io
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from charlstm.architecture import ModelConfig, Weights, parameters
from charlstm.errors import CharlstmError
from charlstm.network.backend import keras
from charlstm.run.description import seal
from charlstm.run.weights import Checkpoint, layout, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint, read_description
from charlstm.text.vocabulary import Vocabulary

MODEL = ModelConfig(units=5, layers=2, dropout=0.25)
CHARACTERS = "\n abcé👩"
SHAPES = layout(MODEL, len(CHARACTERS))


def example() -> Checkpoint:
    random = np.random.default_rng(1)
    return Checkpoint(
        epoch=7,
        model=MODEL,
        vocabulary=Vocabulary(CHARACTERS),
        weights=Weights.of(
            random.normal(size=shape).astype(np.float32) for shape in SHAPES.values()
        ),
        metrics={"train_loss": 1.5, "valid_loss": None},
        training={"seed": 1},
        versions={"charlstm": "0"},
        clock={"seconds": 1.0},
        position={"step": 3},
        states={
            "lstm/0": random.normal(size=(2, 5)).astype(np.float32),
            "optimizer/0": np.array(3, np.int64),
        },
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "epoch-007.weights.h5"
    write_checkpoint(path, example())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CharlstmError) as error:
        read_checkpoint(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_reading_returns_what_was_written(path: Path) -> None:
    read, written = read_checkpoint(path), example()
    assert all(map(np.array_equal, read.weights, written.weights))
    for name in ("epoch", "model", "vocabulary", "metrics", "training", "versions", "clock"):
        assert getattr(read, name) == getattr(written, name)
    assert read.position == written.position
    assert read.states.keys() == written.states.keys()
    assert all(np.array_equal(a, written.states[n]) for n, a in read.states.items())


def test_reading_the_description_alone_gives_the_same_description(path: Path) -> None:
    read, whole = read_description(path), read_checkpoint(path)
    assert read == whole.described()


def test_plain_keras_loads_it_into_the_same_layers(path: Path) -> None:
    layers: list[Any] = [keras.Input(batch_shape=(1, None, len(CHARACTERS)))]
    for _ in range(2):
        layers += [keras.layers.LSTM(5, stateful=True, return_sequences=True)]
        layers += [keras.layers.Dropout(0.25)]
    model = keras.Sequential([*layers, keras.layers.Dense(len(CHARACTERS))])
    model.load_weights(path)
    assert all(map(np.array_equal, model.trainable_variables, example().weights))


def test_the_file_name_does_not_matter(path: Path, tmp_path: Path) -> None:
    assert read_checkpoint(path.rename(tmp_path / "a.h5")).epoch == 7


def test_writing_leaves_no_other_files(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]


def describe(file: h5py.File, **changes: Any) -> None:
    """Change parts of the description and update its checksum, as an attacker would."""
    description = json.loads(file["charlstm"][()]) | changes
    description["sha256"]["charlstm"] = seal(description)  # an attacker can compute it too
    del file["charlstm"]
    file["charlstm"] = np.bytes_(json.dumps(description))


def replace(file: h5py.File, name: str, **create: Any) -> None:
    del file[name]
    file.create_dataset(name, **create)


def describe_model(file: h5py.File, **changes: Any) -> None:
    """Change the model in the description."""
    describe(file, model={"cell": "lstm", "units": 5, "layers": 2, "dropout": 0.1, **changes})


def describe_states(file: h5py.File, **arrays: Any) -> None:
    """Replace the states in the description."""
    known = json.loads(file["charlstm"][()])["resume"]
    describe(
        file, resume={**known, "arrays": {name.replace("_", "/"): k for name, k in arrays.items()}}
    )


def virtual(file: h5py.File) -> None:
    """Replace an array by a virtual dataset that reads from another file."""
    there = h5py.VirtualLayout(SHAPE, "<f4")
    there[:] = h5py.VirtualSource("/etc/passwd", "x", SHAPE)
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, there)


KERNEL = "layers/lstm/cell/vars/0"
STATE = "resume/lstm/0"
SHAPE = SHAPES[KERNEL]
MALFORMED: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "a newer format": (lambda f: describe(f, format=2), "format 2 needs a newer charlstm"),
    "an older format": (lambda f: describe(f, format=0), "unknown format"),
    "a format that is not a number": (lambda f: describe(f, format="1"), "no format of type int"),
    "another cell": (
        lambda f: describe_model(f, cell="gru"),
        "layers/lstm does not belong in it",
    ),
    "an unknown cell": (
        lambda f: describe_model(f, cell="mamba"),
        "its cell must be one of lstm, gru, rnn, not 'mamba'",
    ),
    "no cell": (lambda f: describe(f, model={}), "its model has the keys []"),
    "an activation that the cell does not support": (
        lambda f: describe_model(f, activation="relu"),
        "its activation relu needs an rnn cell, not lstm",
    ),
    "an activation of gates for a cell without them": (
        lambda f: describe_model(f, cell="rnn", recurrent_activation="hard_sigmoid"),
        "its recurrent_activation hard_sigmoid needs an lstm or gru cell, not rnn",
    ),
    "a model without layers": (
        lambda f: describe(f, model={"cell": "lstm"}),
        "its model has the keys",
    ),
    "huge units": (
        lambda f: describe_model(f, units=10**18, layers=1),
        "its units is too large for the size of the file",
    ),
    "more layers": (
        lambda f: describe_model(f, layers=3),
        "is missing",
    ),
    "fewer layers": (
        lambda f: describe_model(f, layers=1),
        "does not belong",
    ),
    "a repeated character": (lambda f: describe(f, vocabulary="\n aacé👩"), "its vocabulary"),
    "a shorter vocabulary": (lambda f: describe(f, vocabulary="\n abcé"), "is not float32"),
    "no vocabulary": (lambda f: describe(f, vocabulary=None), "no vocabulary of type str"),
    "no checksums": (lambda f: describe(f, sha256={}), "does not match its checksum"),
    "no description": (lambda f: f.pop("charlstm"), "not a charlstm weights file"),
    "a description that is not a string": (
        lambda f: replace(f, "charlstm", data=3.5),
        "not a string",
    ),
    "a description of variable length": (
        lambda f: replace(f, "charlstm", data="{}", dtype=h5py.string_dtype()),
        "not a string",
    ),
    "a description that is not JSON": (
        lambda f: replace(f, "charlstm", data=np.bytes_("{")),
        "not JSON",
    ),
    "deep JSON": (lambda f: replace(f, "charlstm", data=np.bytes_("[" * 99999)), "not JSON"),
    "a JSON list": (lambda f: replace(f, "charlstm", data=np.bytes_("[]")), "not a JSON object"),
    "NaN in JSON": (
        lambda f: replace(f, "charlstm", data=np.bytes_('{"format": NaN}')),
        "contains NaN, which is not valid JSON",
    ),
    "a missing array": (lambda f: f.pop(KERNEL), f"{KERNEL} is missing"),
    "an extra array": (
        lambda f: f.create_dataset("layers/lstm_9/cell/vars/0", data=[1.0]),
        "does not belong",
    ),
    "an extra group": (lambda f: f.create_group("optimizer"), "does not belong"),
    "another shape": (
        lambda f: replace(f, KERNEL, data=np.zeros(SHAPE[::-1], "f4")),
        "is not float32",
    ),
    "doubles": (lambda f: replace(f, KERNEL, data=np.zeros(SHAPE)), "is not float32"),
    "a group in place of an array": (
        lambda f: (f.pop(KERNEL), f.create_group(KERNEL)),
        "not an array",
    ),
    "NaN": (lambda f: f[KERNEL].write_direct(np.full(SHAPE, np.nan, "f4")), "checksum"),
    "compression": (
        lambda f: replace(f, KERNEL, data=np.zeros(SHAPE, "f4"), compression="gzip"),
        "not stored in one uncompressed block",
    ),
    "chunks": (
        lambda f: replace(f, KERNEL, shape=SHAPE, dtype="f4", chunks=(1, 1)),
        "not stored in one uncompressed block",
    ),
    "a soft link": (
        lambda f: (f.pop(KERNEL), f.__setitem__(KERNEL, h5py.SoftLink("/charlstm"))),
        "is a link",
    ),
    "an external link": (
        lambda f: (f.pop(KERNEL), f.__setitem__(KERNEL, h5py.ExternalLink("/etc/passwd", "/"))),
        "is a link",
    ),
    "external storage": (
        lambda f: replace(
            f, KERNEL, shape=SHAPE, dtype="f4", external=[("/etc/passwd", 0, 4 * 7 * 20)]
        ),
        "not stored in one uncompressed block",
    ),
    "a cycle": (lambda f: f["layers"].__setitem__("again", f["layers"]), "does not belong"),
    "one array under two names": (
        lambda f: (f.pop(STATE), f.__setitem__(STATE, f[KERNEL])),
        "is not float32 (2, 5)",
    ),
    "virtual data": (virtual, "not stored in one uncompressed block"),
    "numbers of another byte order": (
        lambda f: replace(f, KERNEL, data=np.zeros(SHAPE, ">f4")),
        "is not float32",
    ),
    "whole numbers": (lambda f: replace(f, KERNEL, data=np.zeros(SHAPE, "<i4")), "is not float32"),
    "half precision": (lambda f: replace(f, KERNEL, data=np.zeros(SHAPE, "<f2")), "is not float32"),
    "pairs": (
        lambda f: replace(f, KERNEL, shape=SHAPE, dtype=[("a", "<f4"), ("b", "<f4")]),
        "is not float32",
    ),
    "references": (
        lambda f: replace(f, KERNEL, shape=SHAPE, dtype=h5py.ref_dtype),
        "is not float32",
    ),
    "an array without values": (
        lambda f: replace(f, KERNEL, data=h5py.Empty("<f4")),
        "is not float32",
    ),
    "a type in place of an array": (
        lambda f: (f.pop(KERNEL), f.__setitem__(KERNEL, np.dtype("<f4"))),
        "not an array",
    ),
    "an array in place of a group": (
        lambda f: (f.pop("layers"), f.__setitem__("layers", np.zeros(3))),
        "does not belong",
    ),
    "a name that is not UTF-8": (lambda f: f.create_group(b"\xff\xfe"), "not UTF-8"),
    "a description of many strings": (
        lambda f: replace(f, "charlstm", data=np.array([b"{}", b"{}"])),
        "not a string",
    ),
    "a description in chunks": (
        lambda f: replace(f, "charlstm", data=np.array([b"{}"]), chunks=(1,)),
        "not a string",
    ),
    "an endless description": (
        lambda f: replace(f, "charlstm", shape=(), dtype=f"S{2**30}"),
        "longer than 16,777,216 bytes",
    ),
    "an overlong number": (
        lambda f: replace(f, "charlstm", data=np.bytes_('{"format": ' + "9" * 5000 + "}")),
        "not JSON",
    ),
    "JSON that is not UTF-8": (
        lambda f: replace(f, "charlstm", data=np.bytes_(b'{"format": "\xff"}')),
        "not JSON",
    ),
    "an epoch that is true": (lambda f: describe(f, epoch=True), "no epoch of type int"),
    "an epoch before the first": (lambda f: describe(f, epoch=-1), "its epoch is out of range: -1"),
    "metrics in a list": (lambda f: describe(f, metrics=[1]), "no metrics of type dict"),
    "a loss that is a string": (
        lambda f: describe(f, metrics={"train_loss": "low"}),
        "its 'train_loss' is 'low', not a finite number",
    ),
    "one character": (lambda f: describe(f, vocabulary="a"), "its vocabulary"),
    "more characters than Unicode has": (
        lambda f: describe(f, vocabulary="a" * (2**20 + 2**17)),
        "its vocabulary",
    ),
    "units that are true": (
        lambda f: describe_model(f, units=True),
        "its units must be a whole number",
    ),
    "a dropout of 1": (
        lambda f: describe_model(f, dropout=1),
        "its dropout must be",
    ),
    "no states": (lambda f: describe(f, resume=None), "no resume of type dict"),
    "states without a position": (lambda f: describe(f, resume={}), "no position of type dict"),
    "a position that is a number": (
        lambda f: describe(f, resume={**json.loads(f["charlstm"][()])["resume"], "position": 3}),
        "no position of type dict",
    ),
    "a state of objects": (
        lambda f: describe_states(f, lstm_0=["|O", [2, 5]]),
        "its description of the state 'lstm/0' is invalid",
    ),
    "a state of negative size": (
        lambda f: describe_states(f, lstm_0=["<f4", [-2, -5]]),
        "its description of the state 'lstm/0' is invalid",
    ),
    "a huge state": (
        lambda f: describe_states(f, lstm_0=["<f4", [2**31, 2**31]]),
        "do not fit its description",
    ),
    "a state outside its group": (
        lambda f: describe(f, resume={"position": {}, "arrays": {"../x": ["<f4", [1]]}}),
        "its description of the state '../x' is invalid",
    ),
    "a state that is not described": (
        lambda f: describe_states(f, lstm_0=["<f4", [2, 5]]),
        "resume/optimizer does not belong",
    ),
    "a state of another shape": (
        lambda f: replace(f, STATE, data=np.zeros((5, 2), "<f4")),
        "is not float32 (2, 5)",
    ),
    "a state that is a link": (
        lambda f: (f.pop(STATE), f.__setitem__(STATE, h5py.SoftLink(f"/{KERNEL}"))),
        "is a link",
    ),
    "a state that does not match its checksum": (
        lambda f: f[STATE].write_direct(np.zeros((2, 5), "f4")),
        "does not match its checksum",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_file_that_does_not_match_its_description_is_refused(name: str, path: Path) -> None:
    spoil, complaint = MALFORMED[name]
    with h5py.File(path, "r+") as file:
        spoil(file)
    assert complaint in refusal(path)


@pytest.mark.parametrize(
    "name", [name for name in MALFORMED if "layers" in name or "format" in name]
)
def test_it_is_also_refused_if_its_arrays_are_not_read(name: str, path: Path) -> None:
    spoil, complaint = MALFORMED[name]
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(CharlstmError, match=complaint):
        read_description(path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    spoiled = example()
    spoiled.weights.layers[0].bias[3] = np.inf
    write_checkpoint(tmp_path / "inf.h5", spoiled)
    assert "not finite" in refusal(tmp_path / "inf.h5")


@pytest.mark.parametrize("more", [2**20, 2**42], ids=["a megabyte", "four terabytes"])
def test_a_file_much_larger_than_its_description_is_refused(more: int, path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + more)
    assert "do not fit its description" in refusal(path)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert "not a regular file" in refusal(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04" * 100])
def test_a_file_that_is_not_hdf5_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    refusal(tmp_path / "x")


def test_another_hdf5_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x", "w") as file:
        file["something"] = 1
    assert "not a charlstm weights file" in refusal(tmp_path / "x")


def test_a_file_truncated_at_any_length_is_refused(path: Path) -> None:
    image = path.read_bytes()
    for length in range(0, len(image), 97):
        path.write_bytes(image[:length])
        refusal(path)


def test_a_flipped_byte_gives_the_same_model_or_a_refusal(path: Path) -> None:
    """Unused bytes of HDF5 may change; weights, vocabulary and metrics may not."""
    source, image, written = random.Random(1), path.read_bytes(), example()
    for _ in range(1500):
        spoiled = bytearray(image)
        spoiled[source.randrange(len(image))] ^= 1 << source.randrange(8)
        path.write_bytes(spoiled)
        try:
            read = read_checkpoint(path)
        except CharlstmError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are valid
        else:
            assert all(map(np.array_equal, read.weights, written.weights))
            assert read.vocabulary == written.vocabulary
            assert read.metrics == written.metrics


def test_damaged_and_hostile_files_give_a_model_or_a_one_line_error() -> None:
    """A short run of `make fuzz`."""
    command = [sys.executable, str(Path(__file__).parents[1] / "fuzz.py"), "500"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"( +\d+  (read|refused)\n){2}", done.stdout)


def test_a_write_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(path, example())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_number_of_parameters_matches_the_published_model() -> None:
    assert parameters(ModelConfig(units=512, layers=3), 65) == 5_415_489


def test_the_description_is_a_fixed_length_ascii_string(path: Path) -> None:
    with h5py.File(io.BytesIO(path.read_bytes())) as file:
        assert file["charlstm"].dtype.kind == "S"
        assert bytes(file["charlstm"][()]).isascii()
