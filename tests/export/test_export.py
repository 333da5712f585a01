import importlib
import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import EVERY_CELL, SMALL, Run, environment, interrupt, lines_of, run_here, start
from numpy.testing import assert_allclose
from oracle import Oracle

from charlstm import __version__, folders
from charlstm.architecture import ModelConfig, Weights, shapes
from charlstm.errors import CharlstmError
from charlstm.export import artifact, check, destination
from charlstm.export.artifact import Artifact, Step
from charlstm.export.request import SMALLER
from charlstm.network.backend import tf
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary

B, T, U, V, L = 2, 3, 5, 7, 4  # all different, to catch swapped axes
FORMATS = {
    "saved-model": "model",
    "onnx": "model.onnx",
    "litert": "model.tflite",
    "keras": "model.keras",
    "numpy": "model.npz",
    "html": "model.html",
}
BATCHED = ("saved-model", "onnx", "keras", "numpy")
EXAMPLES = Path(__file__).parents[2] / "examples"
MANUAL = Path(__file__).parents[2] / "docs" / "exports.md"


def a_checkpoint(vocab_size: int = V, **changes: Any) -> Checkpoint:
    """Return a model with random weights, whose characters are U+0100 and up."""
    config = ModelConfig(**{"units": U, "layers": L, **changes})
    source = np.random.default_rng(1)
    weights = shapes(config, vocab_size).map(
        lambda shape: source.normal(0, 0.7, shape).astype(np.float32)
    )
    vocabulary = Vocabulary("".join(chr(256 + i) for i in range(vocab_size)))
    about: dict[str, Any] = {"training": {"seed": 7}, "versions": {"keras": "3"}}
    about |= {"metrics": {"valid_loss": 1.5}, "clock": {"at": "now"}}
    return Checkpoint(3, config, vocabulary, weights, **about)


def exported(form: str, folder: Path, made: Artifact) -> Path:
    path = folder / FORMATS[form]
    destination.format_module(form).write(made, path)
    return path


def loaded(form: str, folder: Path, made: Artifact) -> Step:
    step: Step = destination.format_module(form).load(exported(form, folder, made))
    return step


def read(step: Step, made: Artifact, ids: Any) -> Any:
    """Read ids one by one; return the logits (N, V) after each, and the last states."""
    states, found = artifact.zero_state(made.model), []
    for i in ids:
        logits, states = step(np.array([[i]], np.int32), states)
        found.append(logits[0, 0])
    return np.array(found), states


@pytest.mark.parametrize("form", FORMATS)
@EVERY_CELL
def test_each_format_agrees_with_the_oracle(
    form: str, kind: dict[str, Any], tmp_path: Path
) -> None:
    model = a_checkpoint(**kind)
    write_checkpoint(tmp_path / "a.weights.h5", model)
    made = artifact.make(model, "float32")
    ids = [1, 2, 3, 6, 0, 2, 4, 5]
    text = model.vocabulary.decode(ids)
    found, _ = read(loaded(form, tmp_path, made), made, ids)
    expected = Oracle(tmp_path / "a.weights.h5").logits(text)
    # The states of relu cells grow; logits reach thousands.
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("layers", "size"), [(1, 2), (2, 5000)])
def test_each_format_supports_any_depth_and_vocabulary(
    form: str, layers: int, size: int, tmp_path: Path
) -> None:
    made = artifact.make(a_checkpoint(size, layers=layers), "float32")
    found = check.compare(loaded(form, tmp_path, made), made, characters=20)
    assert found.equal
    assert found.difference < 1e-5


@pytest.mark.parametrize("form", BATCHED)
@EVERY_CELL
def test_a_batch_of_windows_gives_the_same_as_single_characters(
    form: str, kind: dict[str, Any], tmp_path: Path
) -> None:
    made = artifact.make(a_checkpoint(**kind), "float32")
    step = loaded(form, tmp_path, made)
    ids = np.array([[1, 2, 3], [6, 0, 2]], np.int32)
    rows = [read(step, made, row) for row in ids]
    logits, states = step(ids, [np.repeat(s, B, axis=0) for s in artifact.zero_state(made.model)])
    assert_allclose(logits, [row for row, _ in rows], rtol=1e-5, atol=1e-5)
    for state, *alone in zip(states, *(last for _, last in rows), strict=True):
        assert_allclose(state, np.concatenate(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", SMALLER)
@pytest.mark.parametrize("precision", ["float16", "int8"])
@EVERY_CELL
def test_each_format_computes_with_its_rounded_weights(
    form: str, precision: str, kind: dict[str, Any], tmp_path: Path
) -> None:
    made = artifact.make(a_checkpoint(**kind), precision)
    found = check.compare(loaded(form, tmp_path, made), made, characters=20)
    assert found.equal


@pytest.mark.parametrize("form", SMALLER)
def test_smaller_precisions_make_smaller_files(form: str, tmp_path: Path) -> None:
    model = a_checkpoint(units=64)
    sizes = [
        folders.size(exported(form, tmp_path, artifact.make(model, precision)))
        for precision in ("float32", "float16", "int8")
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] < 0.4 * sizes[0]


def test_int8_rounds_to_within_half_a_step_per_column() -> None:
    kernel = a_checkpoint().weights.layers[0].kernel
    kernel[:, 2] = 0
    kernel[:, 3] *= 1e-6
    model = a_checkpoint()
    weights = Weights.of([kernel, *list(model.weights)[1:]])
    made = artifact.make(replace(model, weights=weights), "int8")
    stored = made.weights.layers[0].kernel
    steps = np.abs(kernel).max(axis=0) / 127
    assert (np.abs(stored.array() - kernel) <= steps / 2 * 1.0001).all()
    assert stored.values.dtype == np.int8


def test_weights_beyond_the_range_of_float16_are_refused() -> None:
    model = a_checkpoint()
    model.weights.layers[0].kernel[1, 2] = 7e4
    with pytest.raises(CharlstmError, match="the weights exceed the range of float16"):
        artifact.make(model, "float16")


def description(form: str, path: Path) -> Any:
    """Read the description of an export without charlstm."""
    if form == "saved-model":
        return json.loads((path / "assets.extra" / "charlstm.json").read_text())
    if form == "onnx":
        (item,) = onnx.load(path).metadata_props
        assert item.key == "charlstm"
        return json.loads(item.value)
    if form == "html":
        (data,) = re.findall(r'id="data">(.*?)</script>', path.read_text("utf-8"))
        return json.loads(data)["about"]
    if form == "numpy":
        return json.loads(np.load(path)["charlstm"].item())
    return json.loads(zipfile.ZipFile(path).read("charlstm.json"))


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_contains_the_vocabulary_and_the_settings(form: str, tmp_path: Path) -> None:
    model = a_checkpoint()
    precision = "int8" if form in SMALLER else "float32"
    states = [f"{name}_{n}" for n in (1, 2, 3, 4) for name in "hc"]
    assert description(form, exported(form, tmp_path, artifact.make(model, precision))) == {
        "format": 1,
        "charlstm": __version__,
        "precision": precision,
        "inputs": ["ids", *states],
        "outputs": ["logits", *(f"{name}_out" for name in states)],
        "model": {"cell": "lstm", "units": U, "layers": L, "dropout": 0.2},
        "vocabulary": model.vocabulary.characters,
        "epoch": 3,
        "metrics": {"valid_loss": 1.5},
        "training": {"seed": 7},
        "versions": {"keras": "3"},
        "clock": {"at": "now"},
    }


def test_inputs_and_outputs_have_names_in_order(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    made = artifact.make(a_checkpoint(), "float32")
    inputs, outputs = artifact.input_names(made.model), artifact.output_names(made.model)
    graph = onnx.load(exported("onnx", tmp_path, made)).graph
    assert [node.name for node in graph.input] == inputs
    assert [node.name for node in graph.output] == outputs
    interpreter = Interpreter(str(exported("litert", tmp_path, made)))
    assert [detail["name"] for detail in interpreter.get_input_details()] == inputs
    assert [detail["name"] for detail in interpreter.get_output_details()] == outputs


def test_the_signature_of_a_saved_model_agrees_with_its_step(tmp_path: Path) -> None:
    made = artifact.make(a_checkpoint(), "float32")
    module = tf.saved_model.load(str(exported("saved-model", tmp_path, made)))
    source = np.random.default_rng(3)
    states = [source.normal(size=(B, U)).astype(np.float32) for _ in range(2 * L)]
    inputs = [tf.constant(array) for array in (np.ones((B, T), np.int32), *states)]
    found = module.signatures["serving_default"](
        **dict(zip(artifact.input_names(made.model), inputs, strict=True))
    )
    names = artifact.output_names(made.model)
    for name, array in zip(names, module.step(*inputs), strict=True):
        assert_allclose(found[name], array, atol=1e-6)


def test_litert_buffers_are_aligned_to_16_bytes(tmp_path: Path) -> None:
    """The schema requires this, because runtimes memory-map the file and compute from it."""
    made = artifact.make(a_checkpoint(), "float32")
    content = exported("litert", tmp_path, made).read_bytes()
    starts = [content.index(array.T.tobytes()) for array in list(made.arrays())[1:3]]
    assert [start % 16 for start in starts] == [0, 0]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_exports_do_not_depend_on_a_gpu(
    cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only TensorFlow's formats could: the others do not use TensorFlow."""
    # Keras hides the module behind a function of the same name, so import it by its full path.
    cudnn = importlib.import_module("keras.src.backend.tensorflow.rnn")
    monkeypatch.setattr(cudnn, "_is_gpu_available", lambda: True)
    made = artifact.make(a_checkpoint(cell=cell), "float32")
    graph = (exported("saved-model", tmp_path, made) / "saved_model.pb").read_bytes()
    assert b"MatMul" in graph
    assert b"CudnnRNN" not in graph
    config = zipfile.ZipFile(exported("keras", tmp_path, made)).read("config.json")
    assert b"cudnn" not in config.lower()  # left to the machine that loads it


def test_weights_beyond_the_2_gb_limit_are_refused() -> None:
    made = artifact.make(a_checkpoint(), "float32")
    large = artifact.Stored(np.broadcast_to(np.float32(0), (2**15, 2**14)))
    artifact.check_size(made, "onnx")
    with pytest.raises(CharlstmError, match="onnx: the weights exceed the 2 GB limit"):
        artifact.check_size(
            replace(made, weights=replace(made.weights, dense_kernel=large)), "onnx"
        )


def changed(step: Step, **changes: Callable[[Any], Any]) -> Step:
    """Return a step whose logits or states are slightly wrong."""

    def wrong(ids: Any, states: Any) -> Any:
        logits, found = step(ids, states)
        if "logits" in changes:
            logits = changes["logits"](logits)
        return logits, [changes.get("states", np.asarray)(state) for state in found]

    return wrong


def test_a_slightly_wrong_step_is_detected(tmp_path: Path) -> None:
    made = artifact.make(a_checkpoint(), "float32")
    step = loaded("numpy", tmp_path, made)
    assert check.compare(step, made).equal
    assert check.compare(changed(step, logits=lambda x: x + 5e-5), made).equal
    assert not check.compare(changed(step, logits=lambda x: x + 2e-4), made).equal
    assert not check.compare(changed(step, logits=lambda x: x * np.nan), made).equal
    assert not check.compare(changed(step, states=lambda x: x + 2e-4), made).equal
    assert not check.compare(lambda i, _: step(i, artifact.zero_state(made.model)), made).equal


def test_the_check_reads_every_character_of_a_small_vocabulary(tmp_path: Path) -> None:
    made = artifact.make(a_checkpoint(65), "float32")
    step, read = loaded("numpy", tmp_path, made), set()

    def noted(ids: Any, states: Any) -> Any:
        read.add(int(ids[0, 0]))
        return step(ids, states)

    check.compare(noted, made, characters=1)
    assert read == set(range(65))


def test_an_overflowing_model_is_distinguished_from_a_wrong_export(tmp_path: Path) -> None:
    model = a_checkpoint(cell="rnn", activation="relu")
    model.weights.layers[0].recurrent[:] = 1e4
    made = artifact.make(model, "float32")
    with pytest.raises(CharlstmError, match="model itself overflows"):
        check.compare(loaded("numpy", tmp_path, made), made)


def test_an_export_scores_a_text_as_the_model_does(tmp_path: Path) -> None:
    model = a_checkpoint()
    made = artifact.make(model, "float32")
    ids = np.random.default_rng(2).integers(0, V, 300).astype(np.int32)
    expected = check.model_nats(model, ids, lambda _: None)
    for form, window in (("onnx", 64), ("litert", 1)):
        states = artifact.zero_state(made.model)
        step = loaded(form, tmp_path, made)
        found = check.step_nats(step, states, ids, window, lambda _: None)
        assert found == pytest.approx(expected, abs=1e-5)


def place_new(path: Path, *, overwrite: bool = True, stop: bool = False) -> None:
    """Write a file, or a folder if the name has no suffix."""
    form = "onnx" if path.suffix else "saved-model"
    with destination.placing(path, form, overwrite=overwrite) as part:
        if not path.suffix:
            part.mkdir()
        (part if path.suffix else part / "saved_model.pb").write_text("new")
        if stop:
            raise KeyboardInterrupt


def test_an_old_export_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file, folder = tmp_path / "model.onnx", tmp_path / "model"
    file.write_text("old")
    folder.mkdir()
    (folder / "saved_model.pb").write_text("old")
    for path in (file, folder):
        with pytest.raises(KeyboardInterrupt):
            place_new(path, stop=True)
        with pytest.raises(CharlstmError, match="already exists"):
            place_new(path, overwrite=False)
    assert file.read_text() == (folder / "saved_model.pb").read_text() == "old"
    place_new(file)
    place_new(folder)
    assert file.read_text() == (folder / "saved_model.pb").read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [folder, file]


@pytest.mark.parametrize(
    ("call", "when"), [(1, "before"), (1, "after"), (2, "before"), (2, "after")]
)
def test_an_interrupt_never_loses_a_folder(
    call: int, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl+C arrives just before or after the first or the second rename."""
    folder, calls, rename = tmp_path / "model", [], Path.rename
    folder.mkdir()
    (folder / "saved_model.pb").write_text("old")

    def interrupted(path: Path, target: Path) -> None:
        calls.append(path)
        if len(calls) != call or when == "after":
            rename(path, target)
        if len(calls) == call:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place_new(folder)
    assert list(tmp_path.iterdir()) == [folder]
    found = (folder / "saved_model.pb").read_text()
    assert found == ("new" if (call, when) == (2, "after") else "old")


def test_a_path_created_in_the_meantime_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "model"

    def place_late() -> None:
        with destination.placing(path, "saved-model", overwrite=False) as part:
            part.mkdir()
            path.mkdir()

    with pytest.raises(CharlstmError, match="already exists"):
        place_late()
    assert list(tmp_path.iterdir()) == [path]


def test_only_an_export_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    (tmp_path / "notes" / "saved_model.pb").write_text("mine")
    (tmp_path / "file").write_text("mine")
    cases = {
        (
            "file",
            "onnx",
            False,
        ): "already exists; choose another name, or replace it with `overwrite`",
        ("notes", "saved-model", False): "already exists",
        ("notes", "saved-model", True): "contains a.txt, which is not part of a saved model",
        ("file", "saved-model", True): "is not a folder, so it is not replaced",
        ("model.h5", "keras", True): "must end in .keras, or Keras cannot load the file",
        ("none/model", "saved-model", True): "there is no folder",
        ("n" * 300, "saved-model", True): "File name too long",
        ("..", "saved-model", True): "append the name of the folder to create",
        ("\udcff", "saved-model", True): "needs a name in UTF-8",
    }
    for (name, form, overwrite), message in cases.items():
        with pytest.raises(CharlstmError, match=message):
            destination.check_destination(tmp_path / name, form, overwrite=overwrite)
    destination.check_destination(tmp_path / "file", "onnx", overwrite=True)


def test_a_missing_package_is_named(
    charlstm: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = {
        ("onnx", "onnx", ""): "--format: onnx needs onnx; pip install 'charlstm[onnx]'",
        ("ai_edge_litert", "litert", ""): "--format: litert needs ai-edge-litert; pip install "
        "'charlstm[litert]'",
        ("onnxruntime", "onnx", "--check -"): "--check: onnx needs onnxruntime; pip install "
        "'charlstm[onnx]'",
    }
    for (missing, form, check_on), message in cases.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)  # as if it were not installed
            done = charlstm("export", trained, "--format", form, *check_on.split(), "-o", "model")
        assert done.returncode == 1
        assert lines_of(done.stderr)[1:] == [f"charlstm: {message}"]
    assert not list(tmp_path.iterdir())


def test_an_export_without_its_runtime_is_written_and_reported_as_not_checked(
    charlstm: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = charlstm("export", trained, *"--epoch 1 --format onnx -o model.onnx".split())
    assert done.returncode == 0
    assert lines_of(done.stderr)[0].startswith("epoch 1 of ")
    assert lines_of(done.stderr)[-1].endswith("MB, not checked: onnxruntime is not installed")
    assert description("onnx", tmp_path / "model.onnx")["vocabulary"]


def test_an_export_that_disagrees_is_refused_and_removed(
    charlstm: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras_order = (0, 1, 2, 3)  # not ONNX's order
    monkeypatch.setitem(destination.format_module("onnx").BLOCKS, "lstm", keras_order)
    done = charlstm("export", trained, *"--format onnx -o m.onnx".split())
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].startswith(
        "charlstm: the exported model disagrees with the original: logits or states differ by "
    )
    assert not list(tmp_path.iterdir())


def test_an_input_file_is_never_overwritten(charlstm: Run, trained: Path, tmp_path: Path) -> None:
    weights, text = tmp_path / "a.h5", tmp_path / "text"
    weights.write_bytes((trained / "epoch-001.weights.h5").read_bytes())
    text.write_text("the cell")
    for path in (weights, text):
        before = path.read_bytes()
        done = charlstm(
            "export", weights, "--check", text, "-o", path, *"--format numpy --overwrite".split()
        )
        assert lines_of(done.stderr) == [
            f"charlstm: {path}: is also an input; choose another output file"
        ]
        assert path.read_bytes() == before


def test_an_interrupted_export_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "export", trained, *"--format saved-model -o model".split())
    while not list(tmp_path.glob(".model.*.tmp/new")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    interrupt(process)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def sure(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """Return the folder of a run whose newest weights are saved, not an average.

    After so few steps they are larger, so int8 changes the score visibly.
    """
    folder = tmp_path_factory.mktemp("sure")
    (folder / "words.txt").write_text(text, "utf-8", newline="")
    options = [*SMALL, *"--epochs 2 --average 0 --weight-decay 0 --sample-every 0".split()]
    done = run_here(folder, "train", "words.txt", *options)
    assert done.returncode == 0, done.stderr
    return folder / "checkpoints" / "words"


def test_an_export_reports_the_change_in_bits_per_character(
    charlstm: Run, sure: Path, text: str, tmp_path: Path
) -> None:
    arguments = "export --format onnx --precision int8 --check - -o model.onnx".split()
    done = charlstm(*arguments, sure, given=text[:2000].encode() + b"~~")
    assert done.returncode == 0, done.stderr
    lines = lines_of(done.stderr)
    assert lines[0].startswith("epoch 2 of ")
    assert lines[1].startswith("-: skipped 2 characters outside the vocabulary: '~'")
    assert re.fullmatch(
        r"model\.onnx: 0\.\d MB, checked on 227 characters: largest difference .*e-0[678]", lines[2]
    )
    rows = dict(line.rsplit(maxsplit=1) for line in done.stdout.decode().splitlines()[1:])
    assert rows["characters"] == f"{len(text[:2000]) - 1:,}"
    change = float(rows["exported"]) - float(rows["original"])
    assert float(rows["change"]) == pytest.approx(change, abs=1.1e-4)
    assert 0 < abs(change) < 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    again = charlstm(*arguments, sure)
    assert again.returncode == 1
    assert lines_of(again.stderr)[1:] == [
        "charlstm: model.onnx: already exists; choose another name, or replace it with --overwrite"
    ]


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "html"])  # its own program
def test_examples_generate_the_oracles_text_without_charlstm(
    form: str, trained: Path, tmp_path: Path
) -> None:
    weights = trained / "epoch-002.weights.h5"
    made = artifact.make(read_checkpoint(weights), "float32")
    path = exported(form, tmp_path, made)
    barred = {"charlstm"} | ({"tensorflow", "keras"} if form in SMALLER else set())
    for module in barred:
        (tmp_path / f"{module}.py").write_text(f"raise ImportError({module!r})")
    example = EXAMPLES / f"sample_{form.replace('-', '_')}.py"
    assert len(example.read_text().splitlines()) <= 40
    done = subprocess.run(
        [sys.executable, example, path, "the ", "1e-5", "50"],
        env=environment(PYTHONPATH=str(tmp_path), PYTHONIOENCODING="utf-8"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == f"the {Oracle(weights).write('the ', 50, 0, 0)}\n"


def test_the_manual_contains_the_numpy_example() -> None:
    assert (EXAMPLES / "sample_numpy.py").read_text() in MANUAL.read_text()


@EVERY_CELL
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_numpy_example_supports_any_cell(
    kind: dict[str, Any], precision: str, tmp_path: Path
) -> None:
    model = a_checkpoint(**kind)
    made = artifact.make(model, precision)
    path = exported("numpy", tmp_path, made)
    rounded = replace(model, weights=made.arrays())
    write_checkpoint(tmp_path / "a.weights.h5", rounded)
    prime = model.vocabulary.characters[2:5]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "sample_numpy.py", path, prime, "1e-5", "30"],
        env=environment(PYTHONIOENCODING="utf-8"),
        capture_output=True,
        timeout=120,
        check=True,
    )
    expected = Oracle(tmp_path / "a.weights.h5").write(prime, 30, 0, 0)
    assert done.stdout.decode() == f"{prime}{expected}\n"
