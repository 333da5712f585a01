import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import STRANGE, Run, lines_of
from oracle import Oracle

from charlstm.evaluation import evaluate
from charlstm.network.model import build_model
from charlstm.run.history import bits_per_char
from charlstm.run.weights_reader import read_checkpoint


@pytest.fixture
def weights(trained: Path) -> Path:
    return trained / "epoch-002.weights.h5"


def test_the_score_equals_the_oracles(
    charlstm: Run, trained: Path, weights: Path, text: str
) -> None:
    """The text is from standard input, longer than a window, and has two unknown characters."""
    part = text[:1500]
    done = charlstm(
        *("score", trained, "-", "--epoch", "2", "--unknown", "skip"),
        given=f"\ufeff☃{part}☃".encode(),
    )
    bits = Oracle(weights).nats(part).sum() / 1499 / math.log(2)
    rows = [line.rsplit(maxsplit=1) for line in done.stdout.decode().splitlines()]
    assert [name for name, _ in rows] == [
        *("bits per character", "nats per character", "characters", "skipped", "lanes")
    ]
    assert float(rows[0][1]) == pytest.approx(bits, abs=1e-4)
    assert [value for _, value in rows[2:]] == ["1,499", "2", "1"]
    assert lines_of(done.stderr)[1].startswith(
        "-: skipped 2 characters outside the vocabulary: '☃'"
    )


def test_a_score_in_lanes_equals_the_validation_loss(
    charlstm: Run, weights: Path, text: str, tmp_path: Path
) -> None:
    whole = text * 6  # enough for more than one lane
    (tmp_path / "some.txt").write_text(whole, "utf-8", newline="")
    read = read_checkpoint(weights)
    model = build_model(read.model, len(read.vocabulary), batch_size=3, on_gpu=False)
    model.set_arrays(read.weights)
    ids = read.vocabulary.encode(whole).astype(np.uint8)
    expected = evaluate(model, ids, sequence_length=10)
    assert expected.lanes > 1
    done = charlstm("score", weights, "some.txt", *"--batch-size 3 --json --per-line".split())
    *lines, found = map(json.loads, done.stdout.decode().splitlines())
    assert found == {
        "characters": len(whole) - 1,
        "unknown": 0,
        "nats_per_char": pytest.approx(expected.nats_per_char, abs=1e-5),
        "bits_per_char": pytest.approx(bits_per_char(expected.nats_per_char), abs=1e-5),
        "skipped": 0,
        "lanes": expected.lanes,
    }
    owned = whole.splitlines(keepends=True)
    assert [line["line"] for line in lines] == list(range(1, len(owned) + 1))
    counts = [len(line) for line in owned]
    counts[0] -= 1  # the first character is not predicted
    assert [line["characters"] for line in lines] == counts
    nats = sum(line["nats_per_char"] * line["characters"] for line in lines)
    assert nats == pytest.approx(expected.nats, rel=1e-6)
    oracle = Oracle(weights).nats("".join(owned[:5]))
    ends = np.cumsum(counts[:5])
    for line, start, end in zip(lines, [0, *ends], ends, strict=False):
        assert line["nats_per_char"] == pytest.approx(oracle[start:end].mean(), abs=1e-4)


def test_an_indifferent_model_scores_log2_of_its_vocabulary(
    charlstm: Run, indifferent: Path
) -> None:
    """The first line, which has no predictions, has no mean."""
    text = "\n\n" + STRANGE + "\n" + STRANGE
    done = charlstm("score", indifferent, "-", "--per-line", given=text.encode())
    heading, *lines = done.stdout.decode().splitlines()
    bits = f"{math.log2(len(STRANGE)):.4f}"
    count = text.count("\n") + 1
    assert heading.split() == "line characters bits per character".split()
    assert lines[0].split() == ["1", "0", "-"]
    assert [line.split()[::2] for line in lines[1:count]] == [
        [str(n), bits] for n in range(2, count + 1)
    ]
    assert lines[count] == ""
    assert lines[count + 1].split()[-1] == bits


LINES = ["the cell forgets\n", "naïve\n", "the αβγ gate\n", "\n", "cell " * 40 + "\n", "the gate"]


def reset_scores(charlstm: Run, weights: Path, lines: list[str], *options: str) -> dict[str, Any]:
    """Return the score of each line by itself, and that of all, by text."""
    text = "".join(lines).encode()
    command = ["score", weights, "-", "--reset", "--per-line", "--json"]
    done = charlstm(*command, *options, given=text)
    assert done.returncode == 0, done.stderr
    *each, whole = map(json.loads, done.stdout.decode().splitlines())
    return {"": whole} | dict(zip(lines, each, strict=True))


def test_a_line_by_itself_has_the_same_score_wherever_it_stands(
    charlstm: Run, weights: Path
) -> None:
    """It is that of the oracle from a zero state, after a newline."""
    expected = {
        line: pytest.approx(Oracle(weights).nats("\n" + line).sum() / len(line), abs=1e-5)
        for line in LINES
    }
    for order in ([0, 1, 2, 3, 4, 5], [4, 2, 0, 1, 3, 5], [3, 3, 1, 1, 0, 2, 4, 5]):
        for options in ([], ["--batch-size", "2"]):
            lines = [LINES[i] for i in order]
            found = reset_scores(charlstm, weights, lines, *options)
            for line in lines:
                assert found[line]["nats_per_char"] == expected[line]
                assert found[line]["characters"] == len(line)
            assert found[""]["characters"] == sum(map(len, lines))
            assert found[""]["lanes"] == len(lines)
            total = sum(found[line]["nats_per_char"] * len(line) for line in lines)
            assert found[""]["nats_per_char"] * found[""]["characters"] == pytest.approx(total)
