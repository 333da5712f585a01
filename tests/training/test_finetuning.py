from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Run, lines_of
from numpy.testing import assert_allclose
from oracle import Oracle

from charlstm.architecture import ModelConfig, shapes
from charlstm.config import TRAIN_OPTIONS
from charlstm.presets import read_config
from charlstm.run.weights import Checkpoint, write_checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.finetuning import fit
from charlstm.training.settings import Request, new_settings

OLD, NEW = Vocabulary("bdgk"), Vocabulary("abcdgkz")
MODELS = [
    ModelConfig(units=5, layers=2),
    ModelConfig(cell="gru", units=5, layers=1),
    ModelConfig(cell="rnn", units=5, layers=3, activation="relu"),
]


def example(model: ModelConfig) -> Checkpoint:
    random = np.random.default_rng(2)
    weights = shapes(model, len(OLD)).map(lambda shape: random.normal(size=shape).astype("f4"))
    return Checkpoint(1, model, OLD, weights)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.cell)
def test_known_characters_keep_their_logits(model: ModelConfig, tmp_path: Path) -> None:
    old = example(model)
    weights = fit(old, NEW)
    assert [array.shape for array in weights] == [*shapes(model, len(NEW))]
    write_checkpoint(tmp_path / "old", old)
    write_checkpoint(tmp_path / "new", Checkpoint(1, model, NEW, weights))
    text = "bdgkkgdbbdkg"
    before, after = (Oracle(tmp_path / name).logits(text) for name in ("old", "new"))
    known = [NEW.characters.index(character) for character in OLD.characters]
    assert_allclose(after[:, known], before, atol=1e-12)
    new = [NEW.characters.index(character) for character in "acz"]
    assert_allclose(after[:, new], old.weights.dense_bias.min(), atol=1e-7)


def test_the_kernel_row_of_a_new_character_is_the_mean_of_the_others() -> None:
    old = example(MODELS[0])
    rows = fit(old, NEW).layers[0].kernel
    assert_allclose(
        rows[NEW.characters.index("a")], old.weights.layers[0].kernel.mean(axis=0), atol=1e-7
    )
    assert_allclose(rows[NEW.characters.index("b")], old.weights.layers[0].kernel[0], atol=0)


def test_a_model_is_fine_tuned_on_another_text(charlstm: Run, trained: Path, words: Path) -> None:
    words.write_text("быстрая лиса прыгает через ленивую собаку, the lazy dog\n" * 90, "utf-8")
    more = "--init-from", trained, "--max-steps", "2", "--log-every", "1", "--batch-size", "4"
    done = charlstm("train", "words.txt", *more, "--dropout", "0")
    assert done.returncode == 0, done.stderr
    shown = "\n".join(lines_of(done.stderr))
    assert "base:    a model with 27 characters in its vocabulary\n" in shown
    assert "new:     ',' (U+002C)" in shown
    assert "unused:  'c' (U+0063), 'f' (U+0066)" in shown
    assert "model:   2 x LSTM(24), dropout 0.0: " in shown
    run = words.parent / "checkpoints/words"
    assert f'init_from = "{trained}"' in (run / "config.toml").read_text()
    file = run / "epoch-001.weights.h5"
    old = read_checkpoint(next(trained.glob("epoch-*.h5"))).vocabulary.characters
    text = words.read_text("utf-8")
    assert read_checkpoint(file).vocabulary.characters == "".join(sorted({*old, *text}))
    again = charlstm("train", "words.txt", "--resume")
    assert again.returncode == 0
    assert any(line.startswith("already finished: ") for line in lines_of(again.stderr))


def test_the_base_model_overrides_the_architecture_of_a_preset(trained: Path) -> None:
    base = read_checkpoint(trained / "epoch-001.weights.h5")
    request = Request(("x",), {}, "char-rnn", read_config("char-rnn", TRAIN_OPTIONS))
    chosen = new_settings(request, base=base)
    assert chosen.model == base.model
    assert chosen.config.optimizer == "rmsprop"


def test_the_usual_activation_is_no_conflict_with_the_base_model(trained: Path) -> None:
    base = read_checkpoint(trained / "epoch-001.weights.h5")
    request = Request(("x",), {"recurrent_activation": "sigmoid"})
    assert new_settings(request, base=base).model == base.model


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("--recurrent-activation hard_sigmoid", "the base model has sigmoid, not hard_sigmoid"),
        ("--units 25", "the base model has 24, not 25"),
        ("--initializer normal", "the base model decides the initial weights"),
    ],
)
def test_an_option_that_conflicts_with_the_base_models_weights_is_refused(
    option: str, problem: str, charlstm: Run, trained: Path, words: Path
) -> None:
    done = charlstm("train", words, *SMALL, *option.split(), "--init-from", trained)
    assert done.returncode == 1
    name, _ = option.split()
    assert lines_of(done.stderr)[-1] == (
        f"charlstm: {name}: {problem}; leave it out, or train without --init-from"
    )
    assert not (words.parent / "checkpoints").exists()
