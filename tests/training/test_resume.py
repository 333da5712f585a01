"""Stop and resume trainings as a user does: real processes, real signals."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import killed
import pytest
from conftest import (
    LONG_TEXT,
    SMALL,
    Run,
    environment,
    interrupt,
    lines_of,
    outcome,
    run_here,
    start,
    wait_for,
)

from charlstm import training
from charlstm.errors import CharlstmError
from charlstm.run.find import load_checkpoint
from charlstm.run.folder import RunFolder
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.opening import open_once
from charlstm.training.corpus import corpus_of_old_run
from charlstm.training.settings import Request

# How many times one training gets SIGKILL; `make slow` sets more.
KILLS = int(os.environ.get("KILLS", "2"))

EPOCHS = max(3, KILLS)
LONG = [
    *SMALL,
    *f"--epochs {EPOCHS} --dropout 0.3 --log-every 7 --save-minutes 0.001".split(),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "words.txt").write_text(LONG_TEXT, "utf-8")
    done = run_here(folder, "train", "words.txt", *LONG)
    assert done.returncode == 0, done.stderr
    return folder / "checkpoints/words"


def test_a_training_killed_repeatedly_ends_like_an_uninterrupted_one(
    words: Path, whole: Path
) -> None:
    """The first signal is Ctrl+C, the second SIGTERM; SIGKILL, after that, cannot be handled."""
    words.write_text(LONG_TEXT, "utf-8")
    run, moments, ends = words.parent / "checkpoints/words", random.Random(5), 0
    resume = run / "resume.weights.h5"
    for number in (signal.SIGINT, signal.SIGTERM, *[signal.SIGKILL] * KILLS):
        before = resume.stat().st_mtime_ns if resume.exists() else 0
        process = start(words.parent, "train", words, *LONG, "--resume")
        while process.poll() is None and (
            not resume.exists() or resume.stat().st_mtime_ns == before
        ):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        ends += process.poll() is None
        if number == signal.SIGKILL:
            process.kill()
            process.communicate()
        else:
            assert f"saved; continue with: charlstm train {words} --resume" in interrupt(
                process, number
            )
    done = run_here(words.parent, "train", words, *LONG, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(run) == outcome(whole)
    assert ends == 2 + KILLS
    assert Path(done.stdout.decode().strip()) in set(Path("checkpoints/words").glob("*")) | {
        path.relative_to(words.parent) for path in run.glob("epoch-*.h5")
    }
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(killed.POINTS[2::6], id="some"),
        pytest.param(killed.POINTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_a_training_killed_at_each_point_of_a_save_ends_like_an_uninterrupted_one(
    points: list[str], words: Path, whole: Path
) -> None:
    for point in points:
        process = subprocess.Popen(
            [sys.executable, killed.__file__, point, "train", words, *LONG, "--resume"],
            cwd=words.parent,
            env=environment(),
            stderr=subprocess.PIPE,
        )
        _, err = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (point, err)
    done = run_here(words.parent, "train", words, *LONG, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(words.parent / "checkpoints/words") == outcome(whole)


def test_a_finished_run_says_so_and_continues_with_more_epochs(whole: Path) -> None:
    folder = whole.parents[1]
    done = run_here(folder, "train", "words.txt", *LONG, "--resume")
    assert done.returncode == 0
    assert any(line.startswith("already finished; ") for line in lines_of(done.stderr))
    assert re.fullmatch(rb"checkpoints/words/epoch-0\d\d\.weights\.h5\n", done.stdout)
    before = outcome(whole)
    more = [*LONG, "--epochs", str(EPOCHS + 1), "--log-every", "50", "--resume"]
    copy = folder / "checkpoints/copy"
    shutil.copytree(whole, copy)
    done = run_here(folder, "train", "words.txt", *more, "--run", str(copy))
    assert done.returncode == 0, done.stderr
    history, files = outcome(copy)
    assert history[: len(before[0])] == before[0]
    assert files[:-1] == before[1]
    assert f"epochs = {EPOCHS + 1}\n" in (copy / "config.toml").read_text()


@pytest.mark.parametrize(
    "exists",
    [pytest.param(False, id="new"), pytest.param(True, id="begun", marks=pytest.mark.slow)],
)
def test_of_four_simultaneous_starts_one_trains(exists: bool, words: Path) -> None:  # noqa: FBT001 - a parameter
    """As ``srun`` starts them outside of a job step, or a script that forgets one is running."""
    run = words.parent / "checkpoints/words"
    if exists:
        done = run_here(words.parent, "train", words, *SMALL, "--epochs", "1")
        assert done.returncode == 0, done.stderr
    options = [*SMALL, "--epochs", "200", "--save-minutes", "100", "--resume"]
    processes = [start(words.parent, "train", words, *options) for _ in range(4)]
    while not (run / "epoch-002.weights.h5").exists():
        assert any(process.poll() is None for process in processes)
        time.sleep(0.05)
    (winner,) = [process for process in processes if process.poll() is None]
    for process in processes:
        if process is not winner:
            out, err = process.communicate()
            assert (process.returncode, out) == (1, b"")
            assert "checkpoints/words: another training is using it; " in lines_of(err)[-1]
    interrupt(winner, signal.SIGTERM)


def test_resume_refuses_other_options_and_another_text(whole: Path) -> None:
    folder = whole.parents[1]
    (folder / "other.txt").write_text(LONG_TEXT[::-1], "utf-8")
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    for arguments, complaint in {
        "words.txt --units 25": "--units: the run in checkpoints/words has 24, not 25",
        "words.txt --epochs 1": f"--epochs: the run in checkpoints/words has {EPOCHS}, not 1",
        "words.txt --epsilon 0.1": "--epsilon: the run in checkpoints/words has none, not 0.1",
        "words.txt --config keras-2016": "--layers",
        "words.txt --config keras-2016 --layers 2 --units 24": "--recurrent-activation: the run in "
        "checkpoints/words has sigmoid, not hard_sigmoid; leave out --config",
        "words.txt --recurrent-activation sigmoid --units 25": "--units: ",
        "other.txt --run checkpoints/words": "other.txt: the run in checkpoints/words was started "
        "with another text, or",
    }.items():
        done = run_here(folder, "train", *arguments.split(), "--resume")
        assert done.returncode == 1
        assert complaint in lines_of(done.stderr)[-1]
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before


@pytest.mark.slow
def test_a_run_continues_with_other_groups_of_lanes(words: Path) -> None:
    """Without dropout, it differs from an uninterrupted run only by rounding, which then grows."""
    options = "--batch-size 4 --sequence-length 30 --dropout 0 --precision float32 --log-every 1"

    def command(name: str, epochs: int, *groups: str) -> list[str]:
        run = ["--run", name, "--epochs", str(epochs), "--resume"]
        return ["train", str(words), *SMALL, *options.split(), *run, *groups]

    replicas = ["--device", "cpu", "--replicas", "2"]
    _, err = start(words.parent, *command("replicas", 1, *replicas)).communicate(timeout=300)
    assert b", 2 replicas, float32" in err, err
    shutil.copytree(words.parent / "replicas", words.parent / "groups")
    for name, *groups in (["one"], ["replicas"], ["groups", "--accumulate", "4"]):
        done = run_here(words.parent, *command(name, 2, *groups))
        assert done.returncode == 0, done.stderr
    one, *others = (
        [line.get("loss", line.get("valid_loss")) for line in RunFolder(run).history()[0]]
        for run in (words.parent / name for name in ("one", "groups", "replicas"))
    )
    for losses in others:
        assert losses[:60] == pytest.approx(one[:60], rel=1e-4)
        assert losses == pytest.approx(one, abs=0.05)


def test_a_batch_that_cannot_be_split_is_refused_with_sizes_that_can(
    words: Path, charlstm: Run
) -> None:
    done = charlstm("train", words, *SMALL, *"--batch-size 8 --accumulate 3".split())
    assert lines_of(done.stderr)[-1] == (
        "charlstm: --accumulate: a batch of 8 lanes cannot be split into 3 equal groups; use "
        "--batch-size 6 or 9, or another number of groups"
    )
    command = ["train", str(words), *SMALL, *"--device cpu --replicas 2".split()]
    _, err = start(words.parent, *command).communicate(timeout=300)
    assert lines_of(err)[-1] == (
        "charlstm: --replicas: a batch of 3 lanes cannot be split into 2 equal groups; use "
        "--batch-size 2 or 4, or another number of groups"
    )
    assert not (words.parent / "checkpoints/words").exists()


def test_lost_or_damaged_ids_are_encoded_again_from_the_same_text_only(
    whole: Path, tmp_path: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    run, text = RunFolder(tmp_path / "run"), tmp_path / "text"
    ids, old = run.ids_path.read_bytes(), run.read_corpus()
    told: list[int] = []
    for damaged in (None, b"", ids[:-1]):
        run.ids_path.unlink() if damaged is None else run.ids_path.write_bytes(damaged)
        text.write_text(LONG_TEXT[::-1], "utf-8")
        with pytest.raises(CharlstmError, match="was started with another text"):
            corpus_of_old_run(open_once(str(text)), run, told.append)
        assert damaged is None or run.ids_path.read_bytes() == damaged
        text.write_text(LONG_TEXT, "utf-8")
        corpus = corpus_of_old_run(open_once(str(text)), run, told.append)
        assert corpus.ids.tobytes() == run.ids_path.read_bytes() == ids
        assert corpus.identity() | {"mtime_ns": old["mtime_ns"]} == old


def test_a_second_training_in_the_same_folder_is_refused(words: Path) -> None:
    process = start(words.parent, "train", words, *SMALL, "--epochs", "9999")
    wait_for(words.parent / "checkpoints/.words.part/corpus.json", process)
    for moment in ("before the first step", "after the first epoch"):
        for how in ("--overwrite", "--resume"):
            done = run_here(words.parent, "train", words, *SMALL, how)
            assert done.returncode == 1, moment
            assert "another training is using it" in lines_of(done.stderr)[-1]
        wait_for(words.parent / "checkpoints/words/epoch-001.weights.h5", process)
    interrupt(process)


def test_a_damaged_resume_file_falls_back_to_the_newest_good_epoch(whole: Path) -> None:
    folder = whole.parents[1]
    run = folder / "checkpoints/damaged"
    shutil.copytree(whole, run)
    for epoch in range(2, EPOCHS + 1):
        (run / f"epoch-{epoch:03d}.weights.h5").write_bytes(b"")
    content = bytearray((run / "resume.weights.h5").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "resume.weights.h5").write_bytes(content)
    done = run_here(folder, "train", "words.txt", "--run", str(run), "--resume")
    assert done.returncode == 0, done.stderr
    shown = lines_of(done.stderr)
    warning = next(line for line in shown if line.startswith("warning:"))
    assert "damaged" in warning
    assert f"at least {(EPOCHS - 1) * 527:,} steps after epoch 1 are lost" in warning
    history, files = outcome(run)
    expected, good = outcome(whole)
    steps = [(line["epoch"], line.get("step")) for line in history]
    assert steps == [(line["epoch"], line.get("step")) for line in expected]
    assert files[0] == good[0]


def test_a_saved_state_of_another_run_is_refused(whole: Path) -> None:
    folder = whole.parents[1]
    (folder / "reversed.txt").write_text(LONG_TEXT[::-1], "utf-8")  # has the same vocabulary
    run_here(folder, "train", "reversed.txt", *LONG, "--max-steps", "1")
    run = folder / "checkpoints/mixed"
    shutil.copytree(whole, run)
    shutil.copy(folder / "checkpoints/reversed/resume.weights.h5", run)
    done = run_here(folder, "train", "words.txt", "--run", str(run), "--resume")
    assert done.returncode == 1
    assert "belongs to another model or text; restore" in lines_of(done.stderr)[-1]


def test_an_interrupted_training_can_be_sampled_from_its_last_step(words: Path) -> None:
    """It also leaves no temporary files."""
    process = start(words.parent, "train", words, *SMALL, *"--epochs 9999 --seed 3".split())
    wait_for(words.parent / "checkpoints/words/epoch-002.weights.h5", process)
    interrupt(process)
    assert not list(words.parent.rglob("*.tmp"))
    assert not list(words.parent.rglob("*.part"))
    done = run_here(words.parent, "sample", *"--epoch last --seed 1".split())
    assert done.returncode == 0
    assert re.search(
        r"epoch \d+ of checkpoints/words/resume\.weights\.h5", lines_of(done.stderr)[0]
    )


def test_weights_can_be_read_at_any_time_during_a_training(words: Path) -> None:
    run = words.parent / "checkpoints/words"
    process = start(words.parent, "train", words, *LONG, "--keep", "1", "--save-minutes", "1e-9")
    wait_for(run / "epoch-001.weights.h5", process)
    epochs: dict[str, set[int]] = {"best": set(), "last": set()}
    while process.poll() is None:
        for which, found in epochs.items():
            found.add(load_checkpoint(str(run), which)[1].epoch)
    assert process.returncode == 0
    assert all(len(found) > 1 for found in epochs.values())


def test_a_second_signal_ends_a_training_at_once_and_the_last_save_is_intact(words: Path) -> None:
    options = [*SMALL, *"--units 400 --batch-size 8 --sequence-length 200 --epochs 99".split()]
    process = start(words.parent, "train", words, *options)
    wait_for(words.parent / "checkpoints/words/resume.weights.h5", process)
    assert process.stderr
    os.set_blocking(process.stderr.fileno(), False)
    process.send_signal(signal.SIGTERM)
    shown, since = b"", time.monotonic()
    while b"charlstm: stopping; press Ctrl+C again to quit at once\n" not in shown:
        shown += process.stderr.read() or b""
        assert (
            time.monotonic() - since < 1
        )  # the message comes before the step ends, which takes longer
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert read_checkpoint(words.parent / "checkpoints/words/resume.weights.h5").position


def test_a_run_folder_removed_during_a_training_gives_one_line(words: Path) -> None:
    process = start(words.parent, "train", words, *SMALL, *"--epochs 999 --log-every 1".split())
    wait_for(words.parent / "checkpoints/words/epoch-001.weights.h5", process)
    for _ in range(100):  # the training may be writing to it at the same time
        shutil.rmtree(words.parent / "checkpoints", ignore_errors=True)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == b""
    # It fails where it next needs the folder: mostly when writing, or reading to draw a sample.
    errors = [line for line in lines_of(err) if line.startswith("charlstm: ")]
    assert errors == lines_of(err)[-1:]
    assert re.match(r"charlstm: (\S*/)?checkpoints/words\S*: ", errors[0])
    assert b"Traceback" not in err


def test_a_folder_that_becomes_unwritable_ends_the_training_which_can_be_resumed_later(
    words: Path, whole: Path
) -> None:
    """A file takes the folder's place, since removing permissions does not stop root."""
    run, away = words.parent / "checkpoints/words", words.parent / "away"
    process = start(words.parent, "train", words, *LONG)
    wait_for(run / "epoch-001.weights.h5", process)
    run.rename(away)
    run.touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == b""
    assert re.match(r"charlstm: (\S*/)?checkpoints/words\S*: ", lines_of(err)[-1])
    assert b"Traceback" not in err
    run.unlink()
    away.rename(run)
    done = run_here(words.parent, "train", words, *LONG, "--resume")
    assert done.returncode == 0, done.stderr
    assert outcome(run) == outcome(whole)


def test_the_text_is_not_needed_once_it_is_encoded(
    words: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(words.parent)
    options = tomllib.loads((whole / "config.toml").read_text())
    with training.start(Request((str(words),), {}, "config.toml", options)) as started:
        words.write_text("something else")
        for _ in started.run():
            pass
    assert outcome(words.parent / "checkpoints/words") == outcome(whole)
