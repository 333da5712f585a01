"""Inputs that once broke the program; ``inputs/cases.json`` has the expected results."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import lines_of, run_here

HERE = Path(__file__).parent
INPUTS = HERE / "inputs"
CASES: list[dict[str, Any]] = json.loads((INPUTS / "cases.json").read_text("utf-8"))
WEIGHTS = HERE / "earlier" / "format-1" / "gru.weights.h5"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["command"])
def test_an_input_that_broke_the_program_is_one_line(case: dict[str, Any], tmp_path: Path) -> None:
    for path in INPUTS.iterdir():
        (tmp_path / path.name).symlink_to(path)
    before = {path.name for path in tmp_path.iterdir()}
    command = case["command"].replace("WEIGHTS", str(WEIGHTS)).split()
    done = run_here(tmp_path, *command)
    assert done.returncode == case["code"], done.stderr.decode()
    assert b"Traceback" not in done.stderr
    line = lines_of(done.stderr)[-1]
    assert line.startswith("charlstm: ")
    assert case["line"] in line
    assert len(line) < 1000
    assert {path.name for path in tmp_path.iterdir()} == before


def test_every_input_is_replayed() -> None:
    commands = " ".join(case["command"] for case in CASES).split()
    names = {path.name for path in INPUTS.iterdir()} - {"cases.json"}
    assert names <= set(commands)
