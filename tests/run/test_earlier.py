"""Files of earlier versions, which are never made anew: they are read for ever."""

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
def test_a_file_writes_the_text_that_it_wrote(name: str, charlstm: Run) -> None:
    options = "--length 120 --temperature 0 --prime".split()
    done = charlstm("sample", EARLIER / name, *options, "the cell ")
    assert done.stdout.decode() == EXPECTED["texts"][name], done.stderr.decode()


def test_a_run_that_was_stopped_goes_on_to_the_end_that_it_had(
    charlstm: Run, tmp_path: Path
) -> None:
    """Up to the rounding of another processor or another version of TensorFlow."""
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


def test_a_run_of_an_earlier_version_is_shown(charlstm: Run) -> None:
    shown = json.loads(charlstm("show", EARLIER / "stopped", "--json").stdout)
    assert shown["model"]["units"] == 16
    assert len(shown["epochs"]) == 12
