"""Files of earlier versions must stay readable; they are never regenerated."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, outcome

from charlstm.run.weights_reader import read_checkpoint

EARLIER = Path(__file__).parents[1] / "earlier" / "format-1"
EXPECTED: dict[str, Any] = json.loads((EARLIER / "expected.json").read_text("utf-8"))


@pytest.mark.parametrize("name", EXPECTED["texts"])
def test_an_earlier_file_still_gives_the_same_text(name: str, charlstm: Run) -> None:
    options = "--length 120 --temperature 0 --prime".split()
    done = charlstm("sample", EARLIER / name, *options, "the cell ")
    assert done.stdout.decode() == EXPECTED["texts"][name], done.stderr.decode()


def test_an_interrupted_earlier_run_resumes_to_the_same_result(
    charlstm: Run, tmp_path: Path
) -> None:
    """Up to rounding, which depends on the processor and the version of TensorFlow."""
    shutil.copy(EARLIER / "words.txt", tmp_path)
    shutil.copytree(EARLIER / "stopped", tmp_path / "run")
    done = charlstm("train", "words.txt", "--run", "run", "--resume")
    assert done.returncode == 0, done.stderr.decode()
    history, _ = outcome(tmp_path / "run")
    for line, expected in zip(history, EXPECTED["history"], strict=True):
        assert line.keys() == expected.keys()
        assert line.pop("kind") == expected["kind"]
        assert line == pytest.approx({k: expected[k] for k in line}, rel=1e-2)
    ours, theirs = (
        read_checkpoint(path)
        for path in (tmp_path / "run/epoch-016.weights.h5", EARLIER / "resumed.weights.h5")
    )
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        assert np.abs(one - other).max() < 0.05


def test_show_reads_a_run_of_an_earlier_version(charlstm: Run) -> None:
    shown = json.loads(charlstm("show", EARLIER / "stopped", "--json").stdout)
    assert shown["model"]["units"] == 16
    assert len(shown["epochs"]) == 12
