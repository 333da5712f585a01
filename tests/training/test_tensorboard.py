"""Event files of trainings, read with TensorBoard's own reader."""

import json
import sys
import time
from pathlib import Path

import pytest
from conftest import SMALL, Run, lines_of, run_here, start, wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from charlstm.run.claim import new_run
from charlstm.run.folder import RunFolder
from charlstm.training.tensorboard import Events

STEPS = 527  # per epoch for the fixture ``words`` with the options ``SMALL``
Scalars = dict[str, list[tuple[int, float]]]


def events_of(run: Path) -> Scalars:
    """Return the (step, value) pairs of each scalar, by name, in file order."""
    reader = EventAccumulator(str(run), size_guidance={"tensors": 0}, purge_orphaned_data=False)
    reader.Reload()
    return {
        name: [(e.step, make_ndarray(e.tensor_proto).item()) for e in reader.Tensors(name)]
        for name in reader.Tags()["tensors"]
    }


def is_history(found: Scalars, run: Path, steps: int) -> None:
    """Check that the scalars equal the history."""
    expected: Scalars = {}
    for line in map(json.loads, (run / "history.jsonl").read_text().splitlines()):
        done = (line["epoch"] - 1) * steps + line.get("step", steps)
        for name in line.keys() - {"kind", "epoch", "step", "clock"}:
            expected.setdefault(name, []).append((done, line[name]))
    assert found.keys() == expected.keys()
    for name, pairs in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in pairs]
        values = [value for _, value in pairs]
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-6)  # float32


def step_line(epoch: int, step: int) -> dict[str, object]:
    return {"kind": "step", "epoch": epoch, "step": step, "loss": 2.0 / step, "smooth_loss": 3.0}


def test_events_follow_the_history_as_it_grows(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_history(step_line(1, 2))
    events = Events(run, 5, None)
    for more in (
        step_line(1, 4),
        {"kind": "epoch", "epoch": 1, "train_loss": 1.0, "valid_loss": 1.5},
        step_line(2, 2),
    ):
        run.append_history(more)
        events.follow()
        is_history(events_of(tmp_path), tmp_path, 5)
    events.follow()
    is_history(events_of(tmp_path), tmp_path, 5)


def test_the_last_epoch_ends_at_max_steps(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_history({"kind": "epoch", "epoch": 2, "train_loss": 1.0, "valid_loss": None})
    Events(run, 5, 7).follow()
    assert events_of(tmp_path) == {"train_loss": [(7, 1.0)]}


def test_a_run_with_event_files_can_be_replaced(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.append_history(step_line(1, 2))
    Events(run, 5, None).follow()
    with new_run(run.path, overwrite=True) as new:
        new.append_history(step_line(1, 2))
        new.settle()
    assert {path.name for path in run.path.iterdir()} == {".lock", "history.jsonl"}


def test_a_killed_and_resumed_training_has_no_step_twice(words: Path) -> None:
    """It is killed when its events are ahead of its resume file."""
    run = words.parent / "checkpoints/words"
    options = [*SMALL, "--log-every", "50", "--epochs", "2", "--resume", "--tensorboard"]
    process = start(words.parent, "train", words, *options)
    wait_for(run / "epoch-001.weights.h5", process)
    while '"epoch": 2, "step": 200' not in (run / "history.jsonl").read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert max(step for step, _ in events_of(run)["loss"]) > STEPS
    done = run_here(words.parent, "train", words, *options)
    assert done.returncode == 0, done.stderr
    assert "resumes: epoch 2, after step 0" in lines_of(done.stderr)
    found = events_of(run)
    is_history(found, run, STEPS)
    assert [step for step, _ in found["valid_loss"]] == [STEPS, 2 * STEPS]


def test_without_tensorboard_one_line_says_so_before_anything_is_written(
    words: Path, charlstm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = charlstm("train", words, "--tensorboard")
    assert done.returncode == 1
    _, line = lines_of(done.stderr)
    assert line.startswith("charlstm: --tensorboard: ")
    assert line.endswith("pip install 'charlstm[tensorboard]'")
    assert list(words.parent.iterdir()) == [words]
