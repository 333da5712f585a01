"""The Python interface gives the same results as the commands."""

import doctest
import math
import subprocess
import sys
from collections.abc import Generator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, environment, outcome
from oracle import Oracle

import charlstm as package
from charlstm import CharlstmError
from charlstm.training.reports import Ended, EpochReport, StepReport

DOCS = Path(__file__).parents[1] / "docs" / "python.md"
OPTIONS: dict[str, Any] = {"units": 24, "layers": 2, "batch_size": 3, "sequence_length": 10}
SHORT = OPTIONS | {"epochs": 2, "learning_rate": 0.01, "log_every": 5}


@pytest.fixture(scope="module")
def model(trained: Path) -> package.Model:
    return package.load(trained)


def test_the_examples_in_the_manual_are_correct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.txt").write_text("hello\n" * 165)
    parsed = doctest.DocTestParser().get_doctest(DOCS.read_text("utf-8"), {}, "page", str(DOCS), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    told: list[str] = []
    assert runner.run(parsed, out=told.append).failed == 0, "".join(told)
    assert runner.tries > 15


def test_importing_charlstm_is_light() -> None:
    script = (
        "import sys, charlstm; assert charlstm.__version__;"
        "heavy = {'numpy', 'h5py', 'click', 'tensorflow'} & sys.modules.keys();"
        "assert not heavy, heavy; assert charlstm.load; assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True)


def test_tensorflow_starts_without_matplotlib_which_can_be_imported_afterwards() -> None:
    script = (
        "import sys, charlstm.network.backend; assert 'matplotlib' not in sys.modules;"
        "import matplotlib.pyplot"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'wat'"):
        package.wat  # type: ignore[attr-defined] # noqa: B018 - the access is the test


def test_the_same_seed_draws_the_oracles_text(model: package.Model) -> None:
    for filters in ({}, {"top_k": 5}, {"top_p": 0.9, "min_p": 0.01}):
        expected = Oracle(model.path).write("the ", 60, 0.8, seed=5, **filters)
        drawn = model.sample("the ", length=60, temperature=0.8, seed=5, **filters)
        assert "".join(drawn) == expected


def test_interleaved_samples_are_independent(model: package.Model) -> None:
    def text(seed: int) -> Any:
        return model.sample("the ", length=400, seed=seed)

    expected = ["".join(text(seed)) for seed in (1, 2)]
    one, two = text(1), text(2)
    parts = [[next(one)], [next(two)]]
    parts[0] += one
    parts[1] += two
    assert ["".join(part) for part in parts] == expected
    endless = model.sample("the ", length=math.inf, seed=1)
    assert "".join(islice(endless, 30)).startswith(expected[0][:200])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"prime": "zyk"}, "the prime: has characters outside the vocabulary: 'z'"),
        ({"temperature": -1.0}, "at least 0"),
        ({"length": -1}, "at least 0"),
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"wat": 1}, "unknown key 'wat'"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_a_wrong_argument_of_sample_is_a_one_line_error(
    arguments: dict[str, Any], complaint: str, model: package.Model
) -> None:
    with pytest.raises(CharlstmError, match=complaint):
        next(model.sample(**arguments))


def test_a_score_equals_that_of_the_command(
    model: package.Model, charlstm: Run, text: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text(text, "utf-8", newline="")
    for batch_size in (None, 4):
        options = [] if batch_size is None else ["--batch-size", str(batch_size)]
        shown = charlstm("score", model.path, "text", *options).stdout.decode()
        score = model.score(text, batch_size=batch_size)
        assert f"{score.bits_per_char:.4f}" in shown
    assert model.score(text).whole.nats == pytest.approx(
        float(Oracle(model.path).nats(text).sum()), rel=1e-5
    )
    with pytest.raises(CharlstmError, match="unknown key 'lines'"):
        model.score("the cell", lines=3)


def test_an_export_is_checked_and_never_replaces_an_existing_file(
    model: package.Model, tmp_path: Path
) -> None:
    exported = model.export("numpy", tmp_path / "model.npz")
    assert exported.difference is not None
    assert exported.difference < 1e-4
    assert exported.size == (tmp_path / "model.npz").stat().st_size
    for options, complaint in (
        ({}, "already exists"),
        ({"precision": "int4"}, "precision must be one of"),
        ({"wat": 1}, "unknown key 'wat'"),
    ):
        with pytest.raises(CharlstmError, match=complaint):
            model.export("numpy", tmp_path / "model.npz", **options)
    with pytest.raises(CharlstmError, match="format must be one of"):
        model.export("pickle", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


def run_to_the_end(
    reports: Generator[Any, None, Path],
) -> tuple[list[Any], Path]:
    """Run a training; return its reports and its folder."""
    told = []
    while True:
        try:
            told.append(next(reports))
        except StopIteration as end:
            return told, end.value


def test_a_training_equals_that_of_the_command(
    trained: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(text, "utf-8", newline="")
    told, folder = run_to_the_end(package.train("words.txt", **SHORT))
    assert folder == Path("checkpoints/words")
    assert outcome(folder) == outcome(trained)
    assert (folder / "loss.png").exists()
    kinds = [type(report) for report in told]
    assert kinds.count(EpochReport) == 2
    assert kinds.count(StepReport) == 2 * told[0].steps
    assert told[-1] == Ended("epochs")
    assert package.load().path == package.load(folder).path
    again, _ = run_to_the_end(package.train("words.txt", resume=True, **SHORT))
    assert again == [Ended("epochs")]


def test_a_training_starts_lazily_and_can_be_resumed_when_abandoned(
    trained: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(text, "utf-8", newline="")
    reports = package.train("words.txt", **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]
    assert any(isinstance(report, EpochReport) for report in reports)  # stops at the first
    reports.close()
    told, folder = run_to_the_end(package.train("words.txt", resume=True, **SHORT))
    assert outcome(folder) == outcome(trained)
    assert told[-1] == Ended("epochs")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"unit": 3}, r"unknown key 'unit'; did you mean units\?"),
        ({"units": 0}, "units must be at least 1, not 0"),
        ({"patience": 3, "validation": 0.0}, "`patience`: there is no validation"),
        ({"calibrate": True, "validation": 0.0}, "`calibrate`: there is no validation"),
        ({"resume": True, "overwrite": True}, "not both"),
        ({"config": "nowhere"}, "nowhere: .*the presets are"),
        ({"batch_size": 9999}, "reduce `batch_size`, `sequence_length` or `validation`"),
    ],
)
def test_a_wrong_option_of_train_is_a_one_line_error_and_leaves_nothing(
    options: dict[str, Any], complaint: str, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(words.parent)
    with pytest.raises(CharlstmError, match=complaint):
        next(package.train("words.txt", **options))
    assert list(words.parent.iterdir()) == [words]
