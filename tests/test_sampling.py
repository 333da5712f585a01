import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from numpy.testing import assert_allclose
from oracle import Oracle

from charlstm import checkpoint, sampling
from charlstm.backend import tf
from charlstm.checkpoint import Checkpoint
from charlstm.model import build_model
from charlstm.sampling import Sampler, draw, uniforms

LONG = "the cell forgets naïve αβγ 学而时习\n" * 3  # longer than a chunk


@pytest.fixture(scope="module")
def weights(trained: Path) -> Path:
    return trained / "epoch-002.weights.h5"


@pytest.fixture(scope="module")
def read(weights: Path) -> Checkpoint:
    return checkpoint.read(weights)


def write(read: Checkpoint, prime: str, length: int, temperature: float, seed: int = 5) -> str:
    ids = read.vocabulary.encode(prime)
    drawn = Sampler(read, cudnn=False).sample(ids, length, temperature=temperature, seed=seed)
    return "".join(read.vocabulary.decode(ids) for (ids,) in drawn)


def test_logits_equal_the_oracle(read: Checkpoint, weights: Path) -> None:
    model = build_model(read.model, len(read.vocabulary), batch_size=1, cudnn=False)
    model.set_arrays(read.arrays)
    logits = model(read.vocabulary.encode(LONG)[None])[0]
    assert_allclose(logits, Oracle(weights).logits(LONG), atol=1e-4)


@pytest.mark.parametrize("prime", ["t", "the cell ", LONG])
@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_the_text_is_the_oracles(
    prime: str, temperature: float, read: Checkpoint, weights: Path
) -> None:
    expected = Oracle(weights).write(prime, 200, temperature, seed=5)
    assert write(read, prime, 200, temperature) == expected


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_do_not_change_the_text(
    chunk: int, read: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write(read, LONG, 90, 1)
    monkeypatch.setattr(sampling, "CHUNK", chunk)
    assert write(read, LONG, 90, 1) == expected


def test_a_longer_text_begins_with_the_shorter(read: Checkpoint) -> None:
    assert write(read, "the", 300, 1).startswith(write(read, "the", 45, 1))


def test_nothing_is_left_of_the_text_before(read: Checkpoint) -> None:
    sampler = Sampler(read, cudnn=False)
    ids = read.vocabulary.encode("gate")
    first, second = (
        np.concatenate([*sampler.sample(ids, 40, temperature=1, seed=1)], 1) for _ in range(2)
    )
    assert np.array_equal(first, second)


def test_frequencies_of_draws_follow_the_softmax() -> None:
    logits, count = np.array([2.0, -1.0, 0.5, 0.0, -3.0]), 100_000
    for temperature in (0.5, 1.0, 2.0):
        rows = tf.constant(np.tile(logits, (count, 1)), tf.float32)
        drawn = draw(rows, tf.constant(uniforms(3, 0).random(count)), temperature)
        expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum() * count
        found = np.bincount(drawn, minlength=5)
        # 18.5 is the 99.9 % quantile of chi-square with 4 degrees of freedom.
        assert ((found - expected) ** 2 / expected).sum() < 18.5


def test_extreme_numbers_draw_the_first_and_the_last_possible_id() -> None:
    logits = tf.constant([[0.0, 1.0, 2.0]])
    for number, expected in ((0.0, 0), (np.nextafter(1, 0), 2)):
        assert int(draw(logits, tf.constant([number], tf.float64), 1.0)[0]) == expected


def test_temperature_0_takes_the_first_of_equals() -> None:
    assert int(draw(tf.constant([[0.0, 3, 3, 1]]), tf.constant([0.9], tf.float64), 0.0)[0]) == 1


def test_uniforms_are_a_function_of_seed_stream_and_place() -> None:
    whole = uniforms(9, 2).random(100)
    pieces = uniforms(9, 2)
    assert np.array_equal(whole, [pieces.random() for _ in range(100)])
    assert whole[0] not in (uniforms(9, 1).random(), uniforms(8, 2).random())


def test_the_command_writes_the_prime_and_the_oracles_text(charlstm: Run, weights: Path) -> None:
    done = charlstm(
        "sample", weights, "--prime", LONG, *"--length 60 --temperature 0".split(), LC_ALL="C"
    )
    assert done.returncode == 0
    assert done.stdout.decode() == LONG + Oracle(weights).write(LONG, 60, 0, seed=0)


@pytest.mark.parametrize("length", [0, 70])
def test_samples_are_whole_and_each_the_oracles(length: int, charlstm: Run, weights: Path) -> None:
    done = charlstm(
        "sample", weights, "--prime", "gate", *f"--samples 3 --length {length} --seed 6".split()
    )
    texts = ["gate" + Oracle(weights).write("gate", length, 1, seed=6, stream=i) for i in range(3)]
    assert done.stdout.decode() == "".join(f"{text}\n" for text in texts)
    assert len(set(texts)) == (3 if length else 1)


def test_without_a_prime_a_newline_opens_and_is_not_shown(charlstm: Run, weights: Path) -> None:
    done = charlstm("sample", weights, *"--length 50 --seed 4".split())
    assert done.stdout.decode() == Oracle(weights).write("\n", 50, 1, seed=4)


def test_a_fresh_seed_is_named_and_repeats_the_text(charlstm: Run, weights: Path) -> None:
    first = charlstm("sample", weights, "--length", "40")
    named = re.search(r"seed (\d+)", first.stderr.decode())
    assert named
    assert charlstm("sample", weights, "--length", "40", "--seed", named[1]).stdout == first.stdout
