import math
from pathlib import Path

import numpy as np
import pytest
from conftest import new_model
from oracle import Oracle

from charlstm.architecture import ModelConfig
from charlstm.evaluation import TEMPERATURES, at_temperature, evaluate
from charlstm.network.model import build_model
from charlstm.run.history import bits_per_char
from charlstm.run.weights_reader import read_checkpoint

MODEL = ModelConfig(units=5, layers=2, dropout=0.5)
V = 7
IDS = np.random.default_rng(3).integers(0, V, 1000).astype(np.uint8)


@pytest.mark.parametrize("count", [2, 3, 64, 65, 66, 1000])
@pytest.mark.parametrize("lanes", [None, 2, 3])
def test_a_uniform_model_scores_log2_of_the_vocabulary_size(count: int, lanes: int | None) -> None:
    model = build_model(MODEL, V, batch_size=3, on_gpu=False)  # all weights 0
    found = evaluate(model, IDS[:count], sequence_length=64, lanes=lanes)
    assert found.characters == count - 1
    assert bits_per_char(found.nats_per_char) == pytest.approx(math.log2(V), abs=1e-6)


def test_the_score_does_not_depend_on_the_window_length() -> None:
    model = new_model(MODEL, V, 3)
    for lanes in (1, 3):
        scores = {
            evaluate(model, IDS, sequence_length=length, lanes=lanes).nats
            for length in (1, 7, 64, 999, 2000)
        }
        assert max(scores) - min(scores) < 1e-5 * len(IDS)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_lanes_are_contiguous_and_in_order(batch_size: int) -> None:
    """Whether they fit into a batch or not."""
    model = new_model(MODEL, V, batch_size)
    pieces = [IDS[:334], IDS[333:667], IDS[666:]]  # each last id is the next one's first
    together = evaluate(model, IDS, sequence_length=50, lanes=3)
    alone = sum(evaluate(model, p, sequence_length=50, lanes=1).nats for p in pieces)
    assert together.nats == pytest.approx(alone, abs=1e-3)


def test_the_default_is_one_lane_per_4096_ids_up_to_the_batch_size() -> None:
    model = build_model(MODEL, V, batch_size=3, on_gpu=False)
    for count, lanes in ((8191, 1), (8192, 2), (20_000, 3)):
        ids = np.zeros(count, np.uint8)
        assert evaluate(model, ids, sequence_length=4096).lanes == lanes


@pytest.mark.parametrize("sureness", [0.5, 1.4, 2.0])
def test_the_fitted_temperature_is_the_best_one(sureness: float, trained: Path, text: str) -> None:
    """``sureness`` scales the logits of a trained model; the oracle knows the best temperature."""
    path = trained / "epoch-002.weights.h5"
    read = read_checkpoint(path)
    ids = read.vocabulary.encode(text[:300]).astype(np.uint8)
    model = build_model(read.model, len(read.vocabulary), batch_size=3, on_gpu=False)
    model.set_arrays(at_temperature(read.weights, 1 / sureness))
    logits = sureness * Oracle(path).logits(text[:299])
    losses = []
    for temperature in TEMPERATURES:
        scaled = logits / temperature
        of_targets = scaled[np.arange(len(scaled)), ids[1:]]
        losses.append(np.sum(np.log(np.exp(scaled).sum(axis=1)) - of_targets))

    found = evaluate(model, ids, sequence_length=64, temperatures=TEMPERATURES)
    assert found.temperature == TEMPERATURES[int(np.argmin(losses))]
    assert found.nats == pytest.approx(min(losses), rel=1e-5)
    model.set_arrays(at_temperature(model.arrays(), found.temperature))
    assert evaluate(model, ids, sequence_length=64).nats == pytest.approx(found.nats, rel=1e-5)


def test_evaluation_restores_the_state_of_the_model() -> None:
    model = new_model(MODEL, V, 3)
    model(IDS[:30].reshape(3, 10))
    before = model.state()
    evaluate(model, IDS, sequence_length=64)
    evaluate(model, IDS, sequence_length=64, temperatures=(1.0, 2.0))
    assert all(map(np.array_equal, before, model.state()))


def test_the_score_equals_the_oracle(trained: Path, text: str) -> None:
    path = trained / "epoch-002.weights.h5"
    read = read_checkpoint(path)
    model = build_model(read.model, len(read.vocabulary), batch_size=3, on_gpu=False)
    model.set_arrays(read.weights)
    part = text[:300]
    found = evaluate(model, read.vocabulary.encode(part).astype(np.uint8), sequence_length=64)
    assert found.nats == pytest.approx(Oracle(path).nats(part).sum(), rel=1e-5)
