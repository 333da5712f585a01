"""Extreme numbers and impossible requests: each is reported, with a way out."""

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Run, environment, lines_of
from oracle import Oracle

from charlstm.errors import CharlstmError
from charlstm.export.artifact import make
from charlstm.export.destination import format_module
from charlstm.network.backend import tf
from charlstm.network.device import memory_errors
from charlstm.run.weights_reader import read_checkpoint
from charlstm.sampling import Sampler

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDINGS = {"saved-model": "", "onnx": ".onnx", "litert": ".tflite", "keras": ".keras"}


def test_a_loss_above_that_of_a_uniform_model_is_reported(charlstm: Run, words: Path) -> None:
    options = [*SMALL, *"--epochs 1 --learning-rate 1000 --clip-norm 0 --optimizer sgd".split()]
    done = charlstm("train", words, *options)
    if done.returncode:
        assert "not finite" in lines_of(done.stderr)[-1]
        return
    (note,) = [line for line in lines_of(done.stderr) if line.startswith("note:")]
    assert "learns nothing" in note
    assert re.search(r"has a loss of 3\.\d\d nats", note)
    assert "--learning-rate" in note


def test_a_learning_rate_of_a_thousand_is_reported_with_adam(charlstm: Run, words: Path) -> None:
    done = charlstm("train", words, *SMALL, *"--epochs 1 --learning-rate 1000".split())
    assert done.returncode == 0
    assert sum("learns nothing" in line for line in lines_of(done.stderr)) == 1


def test_an_ordinary_training_gets_no_advice(trained: Path) -> None:
    log = (trained.parents[1] / "err").read_text("utf-8")
    assert not re.search("learns nothing|overfits", log)


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ("sample --temperature 1e19", "must be at least 0 and below 9.2e+18, not 1e+19"),
        ("train x --learning-rate 1e30", "must be above 0 and below 9.2e+18, not 1e+30"),
        ("train x --units 99999999999999999999", "must be at least 1 and below 9.2e+18"),
    ],
)
def test_errors_name_the_actual_bound(options: str, bound: str, charlstm: Run) -> None:
    done = charlstm(*options.split())
    assert done.returncode == 2
    assert bound in lines_of(done.stderr)[-1]


def test_a_run_continues_where_its_precision_is_not_supported(
    charlstm: Run, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(*, answer: bool) -> None:
        monkeypatch.setattr("charlstm.network.device.has_bfloat16", lambda: answer)
        select_device.cache_clear()

    from charlstm.network.device import select_device

    command = ["train", words, *SMALL]
    supported(answer=True)
    done = charlstm(*command, "--epochs", "1")
    assert b", bfloat16\n" in done.stderr
    supported(answer=False)
    done = charlstm(*command, "--epochs", "2", "--precision", "bfloat16", "--resume")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].endswith("avx512_bf16 nor amx_bf16; use float32")
    done = charlstm(*command, "--epochs", "2", "--resume")
    assert done.returncode == 0
    note = "note:    precision was bfloat16 and is now float32: results can differ"
    assert any(line.startswith(note) for line in lines_of(done.stderr))
    supported(answer=True)
    done = charlstm(*command, "--epochs", "3", "--resume")
    assert b", float32\n" in done.stderr  # the precision of the newest state
    assert b"precision was" not in done.stderr
    done = charlstm(*command, "--epochs", "4", "--precision", "bfloat16", "--resume")
    assert b"precision was float32 and is now bfloat16" in done.stderr
    assert done.returncode == 0
    select_device.cache_clear()


@pytest.mark.parametrize("stop", ["\\n", "☃"])
def test_a_stop_text_that_can_never_appear_is_reported_first(
    stop: str, trained: Path, charlstm: Run
) -> None:
    done = charlstm("sample", trained, "--stop", stop, "--length", "inf")
    assert done.returncode == 1
    line = lines_of(done.stderr)[-1]
    assert "can never appear: the vocabulary lacks" in line
    assert line.endswith("$'\\n'" if stop == "\\n" else "choose another")
    done = charlstm("sample", trained, "--stop", stop, "--length", "5", "--seed", "1")
    assert done.returncode == 0
    assert any("can never appear" in line for line in lines_of(done.stderr))


def test_many_unknown_characters_are_one_short_line(trained: Path, charlstm: Run) -> None:
    strange = "".join(chr(0xAC00 + i) for i in range(3000))
    for command in (
        ["score", trained, "-"],
        ["sample", trained, "--prime-file", "-"],
        ["export", trained, *"--format numpy -o m.npz --check -".split()],
    ):
        done = charlstm(*command, given=f"the cell {strange}".encode())
        (line,) = [li for li in lines_of(done.stderr) if "outside the vocabulary" in li]
        assert len(line.encode()) < 1000
        assert "and 2,992 others" in line


def test_line_scores_follow_the_file_even_if_newlines_are_skipped(
    charlstm: Run, tmp_path: Path
) -> None:
    """For a model whose vocabulary has no newline."""
    (tmp_path / "one.txt").write_text("abcab" * 60)
    assert charlstm("train", "one.txt", *SMALL, "--max-steps", "1").returncode == 0
    text = "abc\n\ncab\n☃\nab"
    options = "--per-line --unknown skip --json".split()
    done = charlstm("score", "-", *options, given=text.encode())
    *lines, whole = map(json.loads, done.stdout.decode().splitlines())
    assert [line["characters"] for line in lines] == [2, 0, 3, 0, 2]
    assert whole["characters"] == 7
    nats = sum(line["characters"] * (line["nats_per_char"] or 0) for line in lines)
    assert nats == pytest.approx(7 * whole["nats_per_char"])


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("one line\rtwo lines\r" * 60, "on the classic Mac"),
        ("one line\r\ntwo lines\n" * 60, "mixes CRLF and LF line endings"),
        ("one line\r\ntwo lines\r\n" * 60, ""),
        ("one line\ntwo lines\n" * 60, ""),
    ],
)
def test_odd_line_ends_are_one_note(text: str, note: str, charlstm: Run, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text, "utf-8", newline="")
    done = charlstm("train", "x.txt", *SMALL, "--max-steps", "1")
    notes = [line for line in lines_of(done.stderr) if re.search("lines end|line endings", line)]
    assert [note in line for line in notes] == [True] * bool(note)


@pytest.mark.parametrize("form", [*ENDINGS, "numpy"])
def test_examples_sample_at_temperature_0_without_a_prime(
    form: str, trained: Path, tmp_path: Path
) -> None:
    weights = trained / "epoch-002.weights.h5"
    path = tmp_path / f"model{ENDINGS.get(form, '.npz')}"
    format_module(form).write(make(read_checkpoint(weights), "float32"), path)
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"sample_{form.replace('-', '_')}.py", path, "", "0", "20"],
        env=environment(PYTHONIOENCODING="utf-8"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == Oracle(weights).write("\n", 20, 0, seed=0) + "\n"


@pytest.mark.parametrize(
    "error", [tf.errors.InternalError, tf.errors.FailedPreconditionError, tf.errors.UnknownError]
)
def test_a_gpu_failure_is_one_line_but_a_bug_is_not(error: Any) -> None:
    with (
        pytest.raises(CharlstmError, match=r"the GPU failed: CUDNN_STATUS.*reduce `batch_size`"),
        memory_errors("{batch_size}"),
    ):
        raise error(None, None, "CUDNN_STATUS_EXECUTION_FAILED\nin stream->ThenRnnForward()")
    with pytest.raises(error), memory_errors("{batch_size}"):
        raise error(None, None, "an assumption of ours is wrong")


def test_sample_every_sets_the_epochs_between_samples(charlstm: Run, words: Path) -> None:
    words.write_text("hello\n" * 40)
    options = [*SMALL, *"--epochs 5 --sample-every 2".split()]
    lines = lines_of(charlstm("train", words, *options).stderr)
    ends = [i for i, line in enumerate(lines) if re.match(r"epoch \d|best:", line)]
    sampled = [b - a > 1 for a, b in pairwise(ends)]
    assert sampled == [False, True, False, True, False]


def test_a_long_prime_read_in_windows_gives_the_text_of_the_oracle(trained: Path) -> None:
    """The oracle reads the prime at once; its length requires more than one window."""
    path = trained / "epoch-002.weights.h5"
    read = read_checkpoint(path)
    random = np.random.default_rng(3)
    ids = random.integers(0, len(read.vocabulary), 3000).astype(np.int32)
    prime = read.vocabulary.decode(ids)
    drawn = Sampler(read, on_gpu=False).sample(ids, 30, temperature=0, seed=1)
    text = "".join(read.vocabulary.decode(piece.ids[0]) for piece in drawn)
    assert text == Oracle(path).write(prime, 30, 0, seed=1)
