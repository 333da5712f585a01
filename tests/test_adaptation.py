"""A model that keeps learning while it reads, compared with an oracle that does the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, lines_of
from oracle import Array, Oracle

from charlstm.adaptation import EPSILON, Learner
from charlstm.architecture import ModelConfig, shapes
from charlstm.inference import AdaptOptions
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary

TEXT = "abcddacbaabbc"  # three segments of four targets
OPTIONS = AdaptOptions(adapt_rate=0.05, adapt_decay=0.1, adapt_segment=4)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Return the file of a model with 3 units in 2 layers."""
    config = ModelConfig(units=3, layers=2)
    source = np.random.default_rng(2)
    weights = shapes(config, 4).map(lambda shape: source.normal(0, 0.8, shape).astype("f4"))
    path = tmp_path / "tiny.weights.h5"
    write_checkpoint(path, Checkpoint(1, config, Vocabulary("abcd"), weights))
    return path


def gradient(loss: Any, weights: list[Array]) -> list[Array]:
    """Return the gradient of a loss by finite differences."""
    found = [np.zeros_like(weight) for weight in weights]
    for weight, g in zip(weights, found, strict=True):
        for at in np.ndindex(weight.shape):
            before = weight[at]
            weight[at] = before + 1e-5
            above = loss()
            weight[at] = before - 1e-5
            g[at] = (above - loss()) / 2e-5
            weight[at] = before
    return found


def read_by_the_oracle(path: Path) -> tuple[float, list[Array]]:
    """Read and learn as the program does, in float64; return the nats, and the last weights."""
    oracle = Oracle(path)
    weights = [*(part for layer in oracle.layers for part in layer), *oracle.dense]
    first, squares, total = [w.copy() for w in weights], [np.zeros_like(w) for w in weights], 0.0
    for number in range(3):
        part, state = TEXT[4 * number : 4 * number + 5], oracle.state

        def nats(part: str = part, state: Any = state) -> Array:
            oracle.state = [[array.copy() for array in layer] for layer in state]
            return oracle.nats(part)

        slopes = gradient(lambda nats=nats: nats().mean(), weights)
        total += nats().sum()  # before it is learned from; the state after it stays
        for i, g in enumerate(slopes):
            squares[i] = 0.99 * squares[i] + 0.01 * g * g
            root = np.sqrt(squares[i] / (1 - 0.99 ** (number + 1))) + EPSILON
            weights[i][...] += -0.05 * g / root + 0.1 * (first[i] - weights[i])
    return total, weights


def test_it_reads_and_learns_as_the_oracle(tiny: Path, charlstm: Run) -> None:
    total, weights = read_by_the_oracle(tiny)
    options = "--adapt --adapt-rate 0.05 --adapt-decay 0.1 --adapt-segment 4 --json".split()
    done = charlstm("score", tiny, "-", *options, given=TEXT.encode())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nats_per_char"] == pytest.approx(total / 12, abs=1e-5)
    checkpoint = read_checkpoint(tiny)
    found = Learner(checkpoint, OPTIONS).learn(checkpoint.vocabulary.encode(TEXT))
    for one, other in zip(found.weights, weights, strict=True):
        # Where a gradient is nearly zero, its sign, and so the step, is a matter of rounding.
        assert np.mean(np.abs(one - other) > 1e-3) < 0.02


def score(charlstm: Run, path: Path, text: str, *options: str) -> float:
    done = charlstm("score", path, "-", "--json", *options, given=text.encode())
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout)["bits_per_char"])


def test_a_segment_is_scored_before_it_is_learned_from(charlstm: Run, tiny: Path) -> None:
    whole = ["--adapt", "--adapt-rate", "0.5", "--adapt-segment", "12"]
    static = score(charlstm, tiny, TEXT)
    assert score(charlstm, tiny, TEXT, *whole) == pytest.approx(static, abs=1e-6)
    assert score(charlstm, tiny, TEXT, *whole[:-1], "4") != pytest.approx(static, abs=1e-3)


def test_a_text_of_another_kind_is_learned_and_the_file_stays_as_it_is(
    charlstm: Run, trained: Path
) -> None:
    weights = trained / "epoch-002.weights.h5"
    before = weights.read_bytes()
    text = "gate the cell\n" * 600
    learning = ["--adapt", "--adapt-rate", "0.01"]
    static = score(charlstm, weights, text)
    alone = score(charlstm, weights, text, *learning)
    assert alone < static - 0.5
    assert alone == score(charlstm, weights, text, *learning)
    together = score(charlstm, weights, text, *learning, "--batch-size", "2")
    assert alone < together < static
    assert weights.read_bytes() == before


def test_sampling_learns_from_a_text_first(charlstm: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "style.txt").write_text("gate gate the\n" * 200)
    command = ["sample", trained, *"--seed 1 --temperature 0.5 --length 200 --prime gate".split()]
    learning = ["--adapt", "-", "--adapt-rate", "0.01"]
    text = b"gate gate the\n" * 400
    plain = charlstm(*command)
    learned = charlstm(*command, *learning, given=text)
    assert learned.returncode == 0, learned.stderr
    assert plain.stdout.count(b"gate the") < 5
    assert learned.stdout.count(b"gate the") > 10
    (tmp_path / "style.txt").write_bytes(text)
    learning[1] = "style.txt"
    assert charlstm(*command, *learning).stdout == learned.stdout
    short = charlstm(*command, "--adapt", "-", given=b"g")
    assert lines_of(short.stderr)[-1] == "charlstm: -: scoring needs at least 2 characters"
    both = charlstm(*command[:2], "--adapt", "-", "--prime-file", "-")
    assert both.returncode == 2
    assert "--adapt reads standard input, so --prime-file cannot" in both.stderr.decode()


@pytest.mark.parametrize("command", ["score", "sample"])
def test_its_options_are_refused_without_it(charlstm: Run, tiny: Path, command: str) -> None:
    done = charlstm(command, tiny, *(["-"] if command == "score" else []), "--adapt-rate", "1")
    assert done.returncode == 2
    assert "--adapt-rate is about --adapt: give that, too" in done.stderr.decode()


def test_a_conversation_learns_from_what_is_typed_while_it_should(
    charlstm: Run, trained: Path
) -> None:
    options = "--interactive --temperature 0 --length 60 --adapt-rate 0.01".split()
    lines, answers = "gate gate the gate gate the gate\n" * 40, {}
    for first in ("on", "off"):
        given = f":adapt {first}\n{lines}:adapt off\n:reset\ngate\n:adapt maybe\n"
        done = charlstm("sample", trained, *options, given=given.encode())
        assert done.returncode == 0, done.stderr
        assert lines_of(done.stderr)[-1] == ":adapt: say on or off; :help shows the commands"
        answers[first] = done.stdout.decode()[-60:]
    assert answers["on"].count("gate") > answers["off"].count("gate") + 3
