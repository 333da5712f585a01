import json
import math
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import STRANGE, Run, lines_of, on_a_terminal
from numpy.testing import assert_allclose
from oracle import Oracle, left

from charlstm import sampling
from charlstm.cli._stream import in_colour
from charlstm.drawing import Filters, draw, uniforms
from charlstm.evaluation import evaluate
from charlstm.network.backend import tf
from charlstm.network.model import build_model
from charlstm.run.weights import Checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.sampling import CHUNK, FIRST_CHUNK, Sampler

LONG = "the cell forgets naïve αβγ 学而时习\n" * 3  # longer than the first chunk
FILTERS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"top_k": 1},
    {"top_p": 0.6},
    {"top_p": 0.9},
    {"min_p": 0.2},
    {"top_k": 4, "top_p": 0.8},
    {"top_k": 4, "top_p": 0.95, "min_p": 0.1},
]
QUANTILES = [0.001, 10.83, 13.82, 16.27, 18.47]  # 99.9 % of chi-square, by degrees of freedom


@pytest.fixture(scope="module")
def weights(trained: Path) -> Path:
    return trained / "epoch-002.weights.h5"


@pytest.fixture(scope="module")
def read(weights: Path) -> Checkpoint:
    return read_checkpoint(weights)


def write(read: Checkpoint, prime: str, length: int, temperature: float, seed: int = 5) -> str:
    ids = read.vocabulary.encode(prime)
    drawn = Sampler(read, on_gpu=False).sample(ids, length, temperature=temperature, seed=seed)
    return "".join(read.vocabulary.decode(piece.ids[0]) for piece in drawn)


def test_logits_equal_the_oracle(read: Checkpoint, weights: Path) -> None:
    model = build_model(read.model, len(read.vocabulary), batch_size=1, on_gpu=False)
    model.set_arrays(read.weights)
    logits = model(read.vocabulary.encode(LONG)[None])[0]
    assert_allclose(logits, Oracle(weights).logits(LONG), atol=1e-4)


@pytest.mark.parametrize("prime", ["t", "the cell ", LONG])
@pytest.mark.parametrize("temperature", [0, 0.5, 1])
def test_the_text_equals_the_oracles(
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


def test_the_first_chunk_is_short_and_later_ones_are_full(read: Checkpoint) -> None:
    pieces = Sampler(read, on_gpu=False).sample(
        read.vocabulary.encode("t"), 2000, temperature=1, seed=1
    )
    sizes = [piece.ids.shape[1] for piece in pieces]
    assert (sizes[0], max(sizes), sum(sizes)) == (FIRST_CHUNK, CHUNK, 2000)


def test_the_loop_is_traced_only_once(read: Checkpoint) -> None:
    sampler = Sampler(read, on_gpu=False)
    for prime, length, temperature in (("t", 1, 0), (LONG, 70, 0.5), ("the", 40, 1)):
        ids = read.vocabulary.encode(prime)
        assert list(sampler.sample(ids, length, temperature=temperature, seed=1))
    assert sampler._chunk.experimental_get_tracing_count() == 1  # noqa: SLF001 - the count is TensorFlow's


def test_a_longer_text_starts_with_the_shorter_one(read: Checkpoint) -> None:
    assert write(read, "the", 300, 1).startswith(write(read, "the", 45, 1))


def test_a_new_text_starts_from_a_fresh_state(read: Checkpoint) -> None:
    sampler = Sampler(read, on_gpu=False)
    ids = read.vocabulary.encode("gate")
    first, second = (
        np.concatenate([p.ids for p in sampler.sample(ids, 40, temperature=1, seed=1)], 1)
        for _ in range(2)
    )
    assert np.array_equal(first, second)


def compiled(filters: dict[str, Any]) -> Any:
    """Return ``draw``, compiled as in the generation loop."""
    return tf.function(partial(draw, filters=Filters(**filters)), jit_compile=True)


@pytest.mark.parametrize("filters", FILTERS)
def test_frequencies_follow_the_filtered_softmax(filters: dict[str, Any]) -> None:
    logits, count = np.array([2.0, -1.0, 0.5, 0.5, -3.0]), 100_000
    for temperature in (0.5, 1.0, 2.0):
        rows = tf.constant(np.tile(logits, (count, 1)), tf.float32)
        numbers = tf.constant(uniforms(3, 0).random(count))
        drawn = compiled(filters)(rows, numbers, tf.constant(temperature, tf.float64))
        weights = left(np.exp((logits - 2) / temperature), **filters)
        expected = weights / weights.sum() * count
        found = np.bincount(drawn, minlength=5)
        assert not found[expected == 0].any()
        possible = expected > 0
        chi_square = ((found - expected)[possible] ** 2 / expected[possible]).sum()
        assert chi_square < QUANTILES[possible.sum() - 1]


@pytest.mark.parametrize("filters", [f for f in FILTERS if f])
def test_filters_keep_the_same_ids_as_the_oracle(filters: dict[str, Any]) -> None:
    """Rows differ, and some weights within a row are equal."""
    logits = np.round(np.random.default_rng(4).normal(0, 2, (500, 9)), 1)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    found = tf.function(Filters(**filters).apply, jit_compile=True)(tf.constant(weights))
    assert np.array_equal(found, [left(row, **filters) for row in weights])


def test_an_id_exactly_at_a_limit_is_kept() -> None:
    weights = tf.constant([[0.25, 1, 0.25, 0.5]], tf.float64)
    for filters in (Filters(top_p=0.75), Filters(min_p=0.5), Filters(top_k=2)):
        assert np.array_equal(filters.apply(weights), [[0, 1, 0, 0.5]])
    assert np.array_equal(Filters(top_p=0.76).apply(weights), [[0.25, 1, 0, 0.5]])  # lower id first


def test_filters_that_exclude_nothing_change_nothing() -> None:
    rows = np.random.default_rng(5).normal(0, 30, (20_000, 7))  # some weights are tiny
    rows = tf.constant(rows, tf.float32)
    numbers = uniforms(1, 0).random(20_000)
    numbers[:100] = 0
    plain = compiled({})(rows, numbers, tf.constant(1.0, tf.float64))
    for filters in ({"top_k": 7}, {"top_k": 99}, {"top_p": 1.0}, {"min_p": 0.0}):
        same = compiled(filters)(rows, numbers, tf.constant(1.0, tf.float64))
        assert np.array_equal(plain, same), filters


@pytest.mark.parametrize("filters", [{"top_k": 1}, {"top_p": 1e-320}])
def test_a_filter_that_keeps_one_id_is_like_temperature_0(filters: dict[str, Any]) -> None:
    rows = tf.constant(np.random.default_rng(6).integers(0, 4, (5000, 7)), tf.float32)
    numbers = uniforms(2, 0).random(5000)
    likeliest = compiled({})(rows, numbers, tf.constant(0.0, tf.float64))
    drawn = compiled(filters)(rows, numbers, tf.constant(1.0, tf.float64))
    assert np.array_equal(likeliest, drawn)


def test_an_id_with_weight_0_is_never_drawn() -> None:
    logits = tf.constant([[-1e4, 0.0, -1e4, 0.0, -1e4]])
    for number, expected in ((0.0, 1), (0.5, 3), (np.nextafter(1, 0), 3)):
        assert int(draw(logits, tf.constant([number], tf.float64), 1.0)[0]) == expected


def test_an_id_with_weight_0_is_not_drawn_where_cumulative_sums_round_up() -> None:
    """A compiled cumsum can grow by rounding at a weight of 0; these numbers hit that gap."""
    source, shape = np.random.default_rng(0), (200, 1000)
    logits = np.where(source.random(shape) < 0.3, source.normal(0, 2, shape), -1e4)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    sums = tf.function(lambda w: tf.cumsum(w, -1), jit_compile=True)(tf.constant(weights)).numpy()
    rows, before = np.nonzero((np.diff(sums) > 0) & (weights[:, 1:] == 0))
    numbers = sums[rows, before] / sums[rows].max(-1)
    rows = np.concatenate([rows, np.arange(400) % 200])
    numbers = np.concatenate([numbers, np.zeros(200), np.full(200, np.nextafter(1, 0))])
    drawn = compiled({})(
        tf.constant(logits[rows]), tf.constant(numbers), tf.constant(1.0, tf.float64)
    )
    assert (weights[rows, drawn] > 0).all()


@pytest.mark.parametrize(
    ("length", "cuts"),
    [
        (5, []),  # short, since a longer prime would hide an error at its start
        (40, [1, 31, 32, 33]),
        (40, [FIRST_CHUNK - 1, FIRST_CHUNK, FIRST_CHUNK + 1]),
        (1000, []),
        (1000, [1]),
        (1000, [500, 999]),
        (1000, range(1, 1000)),
    ],
)
def test_a_prime_read_in_parts_leaves_the_same_state(
    length: int, cuts: Sequence[int], read: Checkpoint
) -> None:
    ids = np.random.default_rng(7).integers(0, len(read.vocabulary), length).astype(np.int32)
    model = build_model(read.model, len(read.vocabulary), batch_size=1, on_gpu=False)
    model.set_arrays(read.weights)
    model(ids[None])
    sampler = Sampler(read, on_gpu=False)
    pieces = np.split(ids, cuts)
    sampler.begin(pieces[0], seed=1)
    for piece in pieces[1:]:
        sampler.read(piece)
    for one, other in zip(sampler.state(), model.state(), strict=True):
        assert_allclose(one, other, atol=1e-5)


def test_nats_are_under_the_plain_softmax(read: Checkpoint, weights: Path) -> None:
    ids = read.vocabulary.encode("the ")
    sampler = Sampler(read, on_gpu=False, filters=Filters(top_k=5))
    drawn = [*sampler.sample(ids, 100, temperature=0.7, seed=1)]
    text = "".join(read.vocabulary.decode(piece.ids[0]) for piece in drawn)
    nats = np.concatenate([piece.nats[0] for piece in drawn])
    assert_allclose(nats, Oracle(weights).nats("the " + text)[3:], atol=1e-4)


def test_reading_and_writing_can_alternate(read: Checkpoint) -> None:
    """The final state is the same as after reading the whole text at once."""
    sampler = Sampler(read, on_gpu=False)
    sampler.begin(read.vocabulary.encode("the "), seed=3)
    parts = ["the "]
    for question in ("cell\n", "", "αβγ"):
        sampler.read(read.vocabulary.encode(question))
        (piece,) = sampler.write(7, temperature=1)
        parts += question, read.vocabulary.decode(piece.ids[0])
    alone = Sampler(read, on_gpu=False)
    alone.begin(read.vocabulary.encode("".join(parts)), seed=3)
    for one, other in zip(sampler.state(), alone.state(), strict=True):
        assert_allclose(one, other, atol=1e-5)


def test_extreme_numbers_draw_the_first_and_the_last_id() -> None:
    logits = tf.constant([[0.0, 1.0, 2.0]])
    for number, expected in ((0.0, 0), (np.nextafter(1, 0), 2)):
        assert int(draw(logits, tf.constant([number], tf.float64), 1.0)[0]) == expected


def test_temperature_0_draws_the_first_of_equals() -> None:
    assert int(draw(tf.constant([[0.0, 3, 3, 1]]), tf.constant([0.9], tf.float64), 0.0)[0]) == 1


def test_uniforms_depend_on_seed_stream_and_position_only() -> None:
    whole = uniforms(9, 2).random(100)
    pieces = uniforms(9, 2)
    assert np.array_equal(whole, [pieces.random() for _ in range(100)])
    assert whole[0] not in (uniforms(9, 1).random(), uniforms(8, 2).random())


def test_the_command_prints_the_prime_and_the_oracles_text(
    charlstm_process: Run, weights: Path
) -> None:
    done = charlstm_process(
        "sample", weights, "--prime", LONG, *"--length 60 --temperature 0".split(), LC_ALL="C"
    )
    assert done.returncode == 0
    assert done.stdout.decode() == LONG + Oracle(weights).write(LONG, 60, 0, seed=0)


def test_a_prime_file_a_stop_text_and_filters_work_together(charlstm: Run, weights: Path) -> None:
    """The stop text spans two chunks, and unknown characters of the prime are skipped."""
    expected = Oracle(weights).write(LONG, 100, 0.8, 5, top_k=9, top_p=0.95, min_p=0.01)
    stop = expected[FIRST_CHUNK - 2 : FIRST_CHUNK + 3]
    assert expected.index(stop) == FIRST_CHUNK - 2
    done = charlstm(
        *("sample", weights, "--prime-file", "-", "--unknown", "skip", "--hide-prime"),
        *("--length", "inf", "--stop", "never seen", "--stop", stop, "--temperature", "0.8"),
        *"--top-k 9 --top-p 0.95 --min-p 0.01 --seed 5".split(),
        given=f"\ufeff☃{LONG}☃".encode(),
    )
    assert done.stdout.decode() == expected[: FIRST_CHUNK - 2]
    assert lines_of(done.stderr)[0] == (
        "-: skipped 2 characters outside the vocabulary: '☃' (U+2603) at character 1"
    )


@pytest.mark.parametrize("length", [0, 70])
def test_each_of_several_samples_equals_the_oracles(
    length: int, charlstm: Run, weights: Path
) -> None:
    done = charlstm(
        *("sample", weights, "--prime", "gate", "--separator", "* * *"),
        *f"--samples 3 --length {length} --seed 6".split(),
    )
    texts = ["gate" + Oracle(weights).write("gate", length, 1, seed=6, stream=i) for i in range(3)]
    assert done.stdout.decode() == "* * *\n".join(f"{text}\n" for text in texts)
    assert len(set(texts)) == (3 if length else 1)


def test_json_describes_each_sample(
    charlstm: Run, weights: Path, read: Checkpoint, tmp_path: Path
) -> None:
    """The nats of a sample are the nats of prime and sample minus those of the prime."""
    texts = [Oracle(weights).write("gate ", 90, 0.9, seed=6, stream=i) for i in range(2)]
    stop = texts[0][40:46]
    assert stop not in texts[1]
    options = "--samples 2 --length 90 --temperature 0.9 --seed 6 --json -o out.json".split()
    (tmp_path / "out.json").symlink_to("real")
    done = charlstm("sample", weights, "--prime", "gate ", "--stop", stop, *options)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "real"}
    found = [json.loads(line) for line in (tmp_path / "real").read_text("ascii").splitlines()]
    model = build_model(read.model, len(read.vocabulary), batch_size=1, on_gpu=False)
    model.set_arrays(read.weights)

    def score(text: str) -> float:
        ids = read.vocabulary.encode(text).astype(np.uint8)
        return evaluate(model, ids, sequence_length=64).nats

    expected = (texts[0][: texts[0].index(stop)], "text"), (texts[1], "length")
    for stream, (text, end) in enumerate(expected):
        nats = found[stream].pop("nats")
        assert nats == pytest.approx(score("gate " + text) - score("gate "), abs=1e-4)
        assert found[stream] == {
            "text": text,
            "prime": "gate ",
            "seed": 6,
            "stream": stream,
            "stop": end,
            "characters": len(text),
        }


def test_json_is_one_line_of_ascii(charlstm: Run, indifferent: Path) -> None:
    done = charlstm("sample", indifferent, "--prime", STRANGE[1:], *"--json --length 600".split())
    assert done.stdout.isascii()
    (line,) = done.stdout.decode().splitlines()
    found = json.loads(line)
    assert found["prime"] == STRANGE[1:]
    assert set(found["text"]) == set(STRANGE)
    assert found["nats"] == pytest.approx(600 * math.log(len(STRANGE)), rel=1e-5)


def test_only_a_terminal_gets_colours(charlstm: Run, weights: Path) -> None:
    """Apart from the colours, the text is the same."""
    options = f"sample {weights} --prime the --length 40 --seed 1 --color".split()
    plain = charlstm(*options).stdout.decode()
    assert "\x1b" not in plain
    code, coloured = on_a_terminal(weights.parent, *options)
    assert code == 0
    assert re.search(r"\x1b\[38;5;16;48;5;\d+m", coloured)
    bare = re.sub(r"\x1b\[[\d;]+m", "", coloured)
    assert bare.endswith("\n")  # on a terminal, the output ends with a newline
    assert plain.replace("\n", "\r\n") in bare


@pytest.mark.parametrize(
    ("name", "value", "coloured"),
    [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)],
)
def test_the_environment_can_disable_colours(
    name: str, value: str, *, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert in_colour(wanted=True) == coloured
        assert not in_colour(wanted=False)
    os.close(ours)


def test_without_a_prime_the_text_follows_a_hidden_newline(charlstm: Run, weights: Path) -> None:
    done = charlstm("sample", weights, *"--length 50 --seed 4".split())
    assert done.stdout.decode() == Oracle(weights).write("\n", 50, 1, seed=4)


def test_a_random_seed_is_reported_and_repeats_the_text(charlstm: Run, weights: Path) -> None:
    first = charlstm("sample", weights, "--length", "40")
    named = re.search(r"seed (\d+)", first.stderr.decode())
    assert named
    assert charlstm("sample", weights, "--length", "40", "--seed", named[1]).stdout == first.stdout
