"""Trainings in several processes: like one process, and no one waits for a worker that is gone."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LONG_TEXT, environment, free_addresses, lines_of, run_here, wait_for

from charlstm.run.weights_reader import read_checkpoint

COMMAND = [sys.executable, "-m", "charlstm", "train", "words.txt"]
REPLICATED = Path(__file__).parents[1] / "replicated.py"
RUN = Path("checkpoints/words")
# So slow that rounding does not grow: with Adam, 1000 steps later the runs differ by 0.1 %.
OPTIONS = (
    "--units 24 --layers 2 --batch-size 4 --sequence-length 10 --dropout 0 --precision float32 "
    "--optimizer sgd --learning-rate 0.1 --average 0.9 --log-every 1 --epochs 3 --max-steps 1000 "
    "--resume"
).split()
ENDLESS = [*OPTIONS, "--epochs", "1000", "--max-steps", "1000000"]


@pytest.fixture
def hosts(tmp_path: Path) -> list[Path]:
    """Return the folders of two hosts, each with a copy of the text."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        (folder / "words.txt").write_text(LONG_TEXT, "utf-8")
    return folders


def start(
    folders: list[Path],
    *arguments: str,
    changed: Sequence[str] = (),
    command: Sequence[str] = COMMAND,
) -> list[subprocess.Popen[bytes]]:
    """Start a worker in each folder; the last one with the ``changed`` arguments, too."""
    addresses = free_addresses(len(folders))
    processes = []
    for index, folder in enumerate(folders):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        more = changed if index == len(folders) - 1 else ()
        process = subprocess.Popen(
            [*command, *arguments, *more],
            cwd=folder,
            env=environment(TF_CONFIG=config),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
    return processes


def ends(processes: list[subprocess.Popen[bytes]]) -> list[tuple[int, bytes, list[str]]]:
    """Wait for all processes; return their exit codes, outputs and the lines of their messages."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert b"Traceback" not in err, err.decode()
        results.append((process.returncode, out, lines_of(err)))
    return results


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def assert_near(run: Path, other: Path) -> None:
    """Compare the losses, the weights and all states of two runs."""
    lines = list(zip(history(run), history(other), strict=True))
    assert len(lines) > 1000
    for line, its in lines:
        for name in line.keys() & {"loss", "train_loss", "valid_loss"}:
            assert line[name] == pytest.approx(its[name], rel=1e-5)
    for name in ("epoch-003.weights.h5", "resume.weights.h5"):
        mine, theirs = read_checkpoint(run / name), read_checkpoint(other / name)
        for a, b in zip(mine.weights, theirs.weights, strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
        for state, a in mine.states.items():
            assert np.allclose(a, theirs.states[state], rtol=1e-4, atol=1e-5), state


def test_two_workers_train_like_one_process_which_continues_what_they_stop(
    hosts: list[Path], tmp_path: Path
) -> None:
    """A signal to the second worker stops both; only the first one writes."""
    (tmp_path / "words.txt").write_text(LONG_TEXT, "utf-8")
    alone = run_here(tmp_path, "train", "words.txt", *OPTIONS)
    assert alone.returncode == 0, alone.stderr

    processes, run = start(hosts, *OPTIONS), hosts[0] / RUN
    wait_for(run / "epoch-001.weights.h5", processes[0])
    processes[1].send_signal(signal.SIGTERM)
    (code, out, told), (other, nothing, _) = ends(processes)
    assert (code, out) == (other, nothing) == (143, b"")
    assert "device:  2 workers, each with CPU" in "\n".join(told)
    assert "saved; continue with: charlstm train words.txt --resume" in told
    assert list(hosts[1].iterdir()) == [hosts[1] / "words.txt"]
    stopped = len(history(run))
    assert 400 < stopped < 1000

    done = run_here(hosts[0], "train", "words.txt", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert_near(run, tmp_path / RUN)


def test_when_a_worker_is_killed_the_other_ends_and_names_it(hosts: list[Path]) -> None:
    kill_the_second(start(hosts, *ENDLESS), hosts[0])


@pytest.mark.slow
def test_after_a_worker_was_killed_all_can_be_started_again(hosts: list[Path]) -> None:
    kill_the_second(start(hosts, *ENDLESS), hosts[0])
    processes = start(hosts, *ENDLESS)
    wait_for(hosts[0] / RUN / "epoch-002.weights.h5", processes[0])
    processes[0].send_signal(signal.SIGTERM)
    assert [code for code, *_ in ends(processes)] == [143, 143]


def kill_the_second(processes: list[subprocess.Popen[bytes]], host: Path) -> None:
    """Kill a worker after the first epoch, and check how the chief ends."""
    wait_for(host / RUN / "epoch-001.weights.h5", processes[0])
    processes[1].kill()
    killed = time.monotonic()
    processes[1].communicate()
    ((code, out, told),) = ends(processes[:1])
    assert time.monotonic() - killed < 60
    assert (code, out) == (1, b"")
    assert told[-1].startswith("charlstm: worker 2 (127.0.0.1:")
    assert "--resume" in told[-1]
    assert not list(host.rglob(".*.tmp"))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (["--units", "25"], "its units is 25, but that of worker 1 is 24"),
        pytest.param(
            ["--replicas", "2", "--device", "cpu"], "its devices is 2 x CPU", marks=pytest.mark.slow
        ),
    ],
)
def test_a_worker_with_other_options_is_refused_by_name(
    changed: list[str], complaint: str, hosts: list[Path]
) -> None:
    for code, out, told in ends(start(hosts, *OPTIONS, changed=changed)):
        assert (code, out) == (1, b"")
        assert told[-1].startswith("charlstm: worker 2 (127.0.0.1:")
        assert complaint in told[-1]
    assert [[p.name for p in host.iterdir()] for host in hosts] == [["words.txt"]] * 2


@pytest.mark.parametrize(
    "text",
    ["x" + LONG_TEXT[1:], *(pytest.param(text, marks=pytest.mark.slow) for text in (None, "\xff"))],
)
def test_a_worker_with_another_text_or_none_is_refused_by_name(
    text: str | None, hosts: list[Path]
) -> None:
    (hosts[1] / "words.txt").unlink()
    if text is not None:
        (hosts[1] / "words.txt").write_bytes(text.encode("latin-1"))
    for code, out, told in ends(start(hosts, *OPTIONS)):
        assert (code, out) == (1, b"")
        assert told[-1].startswith("charlstm: worker 2 (127.0.0.1:")
        assert "words.txt" in told[-1]
    assert not (hosts[0] / RUN).exists()


@pytest.mark.slow
def test_a_chief_that_cannot_train_tells_the_others_why(hosts: list[Path]) -> None:
    (hosts[0] / "checkpoints").write_text("a file")
    for code, out, told in ends(start(hosts, *OPTIONS)):
        assert (code, out) == (1, b"")
        assert "checkpoints" in told[-1]


@pytest.mark.slow
def test_a_worker_that_does_not_come_is_named_after_the_timeout(hosts: list[Path]) -> None:
    processes = start(hosts, *OPTIONS, "--start-timeout", "5")
    processes[1].kill()
    processes[1].communicate()
    ((code, out, told),) = ends(processes[:1])
    assert (code, out) == (1, b"")
    assert told[-1].startswith("charlstm: worker 2 (127.0.0.1:")
    assert "--start-timeout" in told[-1]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("workers", "replicas", "groups"), [(1, 1, 4), (1, 2, 1), (2, 1, 1), (2, 2, 1), (2, 1, 2)]
)
def test_fifty_steps_are_those_of_one_device(
    workers: int, replicas: int, groups: int, optimizer: str, tmp_path: Path
) -> None:
    """Without dropout; with dropout, they are those of as many groups of lanes on one device."""
    for dropout, alone in (("0", 1), ("0.3", workers * replicas * groups)):
        found = steps(tmp_path / "found.npz", workers, replicas, groups, optimizer, dropout)
        expected = steps(tmp_path / "alone.npz", 1, 1, alone, optimizer, dropout)
        for name in ("losses", "norms"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5)
        for name, array in expected.items():
            tolerance = 1e-5 if optimizer == "sgd" else 1e-4
            assert np.abs(found[name] - array).max() <= tolerance * np.abs(array).max(), name
    again = steps(tmp_path / "again.npz", workers, replicas, groups, optimizer, dropout)
    assert all(np.array_equal(again[name], array) for name, array in found.items())


def steps(output: Path, workers: int, replicas: int, groups: int, *rest: str) -> dict[str, Any]:
    """Run ``replicated.py`` in so many processes; return the arrays that the chief saved."""
    command = [sys.executable, str(REPLICATED), str(output), str(replicas), str(groups), *rest]
    processes = start([output.parent] * workers, command=command)
    assert {code for code, *_ in ends(processes)} == {0}
    return dict(np.load(output))
