import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import environment, outcome
from numpy.testing import assert_allclose
from oracle import Oracle

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.evaluation import evaluate
from charlstm.network.backend import keras, tf
from charlstm.network.device import Device
from charlstm.network.model import build_model
from charlstm.run.claim import new_run
from charlstm.run.folder import RunFolder
from charlstm.run.weights import Checkpoint
from charlstm.run.weights_reader import read_checkpoint
from charlstm.text.encoding import Corpus
from charlstm.text.vocabulary import Vocabulary
from charlstm.text.windows import Windows
from charlstm.training.loop import Training
from charlstm.training.optimizer import make_optimizer
from charlstm.training.position import Reason, beginning, finished, position_of
from charlstm.training.reports import Ended, EpochReport, Note, Origin, Report, StepReport
from charlstm.training.schedule import Schedule
from charlstm.training.step import Trainer

B, T, V = 2, 3, 7
MODEL = ModelConfig(units=5, layers=2, dropout=0.0)
LETTERS = Vocabulary("abcdefg")
IDS = np.random.default_rng(5).integers(0, V, 60).astype(np.uint8)
STEPS = 59 // (B * T)
FIRST = tf.constant([1, 1], tf.int64)  # the dropout key of the first step
# Steps so small that the weights stay the same: all losses are then those of one model.
STILL: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e-30, "clip_norm": 0.0}


@dataclass
class Trained:
    run: RunFolder
    steps: list[StepReport]
    epochs: list[EpochReport]

    def history(self, kind: str) -> list[dict[str, Any]]:
        lines = map(json.loads, (self.run.path / "history.jsonl").read_text().splitlines())
        return [line for line in lines if line["kind"] == kind]


@contextlib.contextmanager
def training_in(
    folder: Path, model: ModelConfig = MODEL, validation: Any = IDS[:0], **options: Any
) -> Iterator[tuple[Trainer, Iterator[Report]]]:
    """Start a training in a new run folder."""
    config = TrainConfig(**{"batch_size": B, "sequence_length": T, "epochs": 1, **options})
    with new_run(folder, overwrite=False) as run:
        trainer = Trainer(model, config, V, on_gpu=False)
        yield trainer, training_of(trainer, run, (IDS, validation), model).run()


def training_of(
    trainer: Trainer,
    run: RunFolder,
    parts: tuple[Any, Any],
    model: ModelConfig = MODEL,
    read: Checkpoint | None = None,
    **rest: Any,
) -> Training:
    """Build a training; it resumes from the checkpoint ``read`` if given."""
    letters = rest.pop("letters", LETTERS)
    corpus = corpus_of(parts[0], letters)
    at = position_of(read, model, corpus, run) if read else beginning(len(letters))
    if read:
        trainer.restore(read.weights, read.states)
    return Training(
        model=model,
        corpus=corpus,
        windows=Windows(parts[0], trainer.config.batch_size, trainer.config.sequence_length),
        validation=parts[1],
        run_folder=run,
        trainer=trainer,
        device=Device("CPU", on_gpu=False),
        at=at,
        is_new=read is None,
        origin=Origin(resumed=read),
        **rest,
    )


def corpus_of(ids: Any, letters: Vocabulary) -> Corpus:
    return Corpus(letters, (1,) * len(letters), len(ids), 0, "", ids)


def run_training(folder: Path, *records: Any, **options: Any) -> Trained:
    """Train to the end."""
    with training_in(folder, *records, **options) as (_, reports):
        both = list(reports)
    return Trained(
        RunFolder(folder),
        [report for report in both if isinstance(report, StepReport)],
        [report for report in both if isinstance(report, EpochReport)],
    )


def test_losses_equal_the_oracles_for_each_lane(tmp_path: Path) -> None:
    """Each lane is one text, read from a zero state through all windows of the epoch."""
    done = run_training(tmp_path / "run", **STILL)
    oracles = [Oracle(done.epochs[0].path) for _ in range(B)]
    length = STEPS * T
    lanes = [IDS[b * length : (b + 1) * length + 1] for b in range(B)]
    nats = np.array(
        [
            oracle.nats("".join("abcdefg"[i] for i in lane))
            for oracle, lane in zip(oracles, lanes, strict=True)
        ]
    )
    expected = nats.reshape(B, STEPS, T).mean(axis=(0, 2))
    assert_allclose([report.loss for report in done.steps], expected, rtol=1e-5)


def test_state_is_zero_at_the_start_of_every_epoch(tmp_path: Path) -> None:
    done = run_training(tmp_path / "run", epochs=2, **STILL)
    losses = [report.loss for report in done.steps]
    assert losses[:STEPS] == losses[STEPS:]


def test_the_history_matches_the_reports(tmp_path: Path) -> None:
    done = run_training(tmp_path / "run", epochs=2, log_every=2, validation=IDS[:20])
    lines = done.history("step")
    assert [(line["epoch"], line["step"]) for line in lines] == [
        (epoch, step) for epoch in (1, 2) for step in range(2, STEPS + 1, 2)
    ]
    assert all(
        line.keys() == {"kind", "epoch", "step", "loss", "smooth_loss", "clock"} for line in lines
    )
    logged = {(line["epoch"], line["step"]): line for line in lines}
    smooth = math.log(V)
    for step in done.steps:
        smooth = 0.999 * smooth + 0.001 * step.loss
        assert step.smooth_loss == pytest.approx(smooth, rel=1e-12)
        line = logged.get((step.epoch, step.step), {})
        assert line.get("loss", step.loss) == step.loss
        assert line.get("smooth_loss", step.smooth_loss) == step.smooth_loss
    for line, report in zip(done.history("epoch"), done.epochs, strict=True):
        assert line.keys() == {"kind", "epoch", "train_loss", "valid_loss", "clock"}
        losses = [s.loss for s in done.steps if s.epoch == line["epoch"]]
        assert line["train_loss"] == report.train_loss == pytest.approx(np.mean(losses))
        assert line["valid_loss"] == report.valid_loss
        assert line["clock"].keys() == {"seconds", "characters_per_second", "at"}


@pytest.mark.parametrize(
    "options", [{}, {"calibrate": True, "average": 0.9}, {"average": 0.9, "precision": "bfloat16"}]
)
def test_an_epoch_file_has_the_weights_that_were_validated(
    options: dict[str, Any], tmp_path: Path
) -> None:
    part = IDS[:31]
    done = run_training(tmp_path / "run", epochs=2, validation=part, learning_rate=0.1, **options)
    assert len(done.epochs) == 2
    for report in done.epochs:
        read = read_checkpoint(report.path)
        model = build_model(MODEL, V, batch_size=1, on_gpu=False)
        model.set_arrays(read.weights)
        found = evaluate(model, part, sequence_length=64).nats_per_char
        assert report.valid_loss == pytest.approx(found, abs=1e-5)
        assert read.metrics == {"train_loss": report.train_loss, "valid_loss": report.valid_loss}
    assert done.epochs[0].valid_loss != done.epochs[1].valid_loss


@pytest.mark.parametrize("options", [{}, {"calibrate": True, "average": 0.9}])
def test_validation_does_not_disturb_the_training(options: dict[str, Any], tmp_path: Path) -> None:
    with_it = run_training(tmp_path / "with", epochs=2, validation=IDS[:31], **options)
    without = run_training(tmp_path / "without", epochs=2)
    assert with_it.steps == without.steps
    assert [line["valid_loss"] for line in without.history("epoch")] == [None, None]


@pytest.mark.parametrize(
    ("max_steps", "epochs"), [(1, [1]), (STEPS, [STEPS]), (STEPS + 2, [STEPS, 2])]
)
def test_max_steps_ends_its_epoch_early(max_steps: int, epochs: list[int], tmp_path: Path) -> None:
    done = run_training(tmp_path / "run", epochs=5, max_steps=max_steps)
    assert len(done.steps) == max_steps
    assert done.run.epochs() == [report.epoch for report in done.epochs]
    counts = [sum(step.epoch == report.epoch for step in done.steps) for report in done.epochs]
    assert counts == epochs


def test_equal_seeds_give_equal_weights_and_different_seeds_different_ones(tmp_path: Path) -> None:
    model = ModelConfig(units=5, layers=2, dropout=0.5)
    one, two, other = (
        read_checkpoint(run_training(tmp_path / name, model, seed=seed).epochs[0].path).weights
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert all(map(np.array_equal, one, two))
    assert not any(map(np.array_equal, one, other))


@pytest.mark.parametrize("steps_per_call", [1, 4, 100])
def test_the_number_of_steps_per_call_does_not_change_the_training(
    steps_per_call: int, tmp_path: Path
) -> None:
    model = ModelConfig(units=5, layers=2, dropout=0.5)
    whole = run_training(tmp_path / "whole", model, epochs=2, log_every=3)
    with training_in(tmp_path / "run", model, epochs=2, log_every=3) as (trainer, reports):
        assert trainer.steps_per_call > STEPS  # since this model is so small
        trainer.steps_per_call = steps_per_call
        steps = [report for report in reports if isinstance(report, StepReport)]
    assert steps == whole.steps
    one, two = (
        read_checkpoint(RunFolder(tmp_path / name).choose("last")).weights
        for name in ("whole", "run")
    )
    assert all(map(np.array_equal, one, two))


def test_patience_ends_a_training_that_does_not_improve_and_can_be_raised(tmp_path: Path) -> None:
    done = run_training(tmp_path / "run", epochs=9, validation=IDS[:31], patience=2, **STILL)
    assert done.run.epochs() == [1, 2, 3]  # all equal: the first is the best
    assert done.run.best_epoch() == 1
    config = TrainConfig(batch_size=B, sequence_length=T, epochs=9, patience=2)
    read = read_checkpoint(done.run.resume_path)
    at = position_of(read, MODEL, corpus_of(IDS, LETTERS), done.run)
    assert finished(at, config, STEPS, done.run) == "patience"
    assert not finished(at, replace(config, patience=3), STEPS, done.run)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"epochs": 1}, "epochs"),
        ({"epochs": 9, "max_steps": STEPS + 1}, "max_steps"),
        ({"epochs": 9, "patience": 2}, "patience"),
        ({"epochs": 3, "patience": 2}, "epochs"),  # both at once: it would have ended anyway
    ],
)
def test_the_last_report_says_why_it_ended(
    options: dict[str, Any], reason: Reason, tmp_path: Path
) -> None:
    with training_in(tmp_path / "run", validation=IDS[:31], **STILL, **options) as (_, reports):
        assert list(reports)[-1] == Ended(reason)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_stopped_at_its_end_is_finished(epochs: int, tmp_path: Path) -> None:
    """The signal comes when the first epoch is written: with one epoch, nothing is left to do."""
    config = TrainConfig(batch_size=B, sequence_length=T, epochs=epochs)
    with new_run(tmp_path / "run", overwrite=False) as run:
        trainer = Trainer(MODEL, config, V, on_gpu=False)
        trainer.steps_per_call = 1
        training = training_of(
            trainer, run, (IDS, IDS[:0]), stopped=lambda: run.epoch_path(1).exists()
        )
        assert list(training.run())[-1] == Ended("epochs" if epochs == 1 else "stopped")


def test_keep_leaves_the_newest_and_the_best(tmp_path: Path) -> None:
    done = run_training(tmp_path / "run", epochs=5, validation=IDS[:31], keep=2, **STILL)
    assert done.run.epochs() == [1, 4, 5]
    assert done.run.best_epoch() == 1
    assert len(done.history("epoch")) == 5


# Options for which resuming is tested; each recipe differs from the first in other options.
RECIPES: list[dict[str, Any]] = [
    {},
    {"layers": 1, "dropout": 0.0},
    {"layers": 4, "units": 3},
    {"cell": "gru", "optimizer": "rmsprop", "rho": 0.95, "clip_value": 0.1, "clip_norm": 0.0},
    {"cell": "rnn", "activation": "relu", "schedule": "cosine", "warmup": 5},
    {"schedule": "exponential", "decay": 0.5, "decay_after": 1, "weight_decay": 0.1},
    {"optimizer": "adagrad", "learning_rate": 0.1},
    {"optimizer": "sgd", "learning_rate": 0.5},
    {"max_steps": 17},
    {"keep": 1, "log_every": 1, "seed": 2**32 - 1},
    {"precision": "bfloat16"},
    {"batch_size": 1, "sequence_length": 6, "patience": 9},
    {"average": 0.9, "calibrate": True},
]


@pytest.mark.parametrize(
    "recipe", [RECIPES[0], *(pytest.param(r, marks=pytest.mark.slow) for r in RECIPES[1:])], ids=str
)
def test_a_training_stopped_after_any_step_and_resumed_equals_an_uninterrupted_one(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    """24 steps in two epochs, with dropout and validation; the results must be bit-identical."""
    ids = np.random.default_rng(6).integers(0, V, 12 * B * T + 1).astype(np.uint8)
    names = {item.name for item in fields(ModelConfig)}
    model = ModelConfig(
        **{
            "units": 5,
            "layers": 2,
            "dropout": 0.5,
            **{k: v for k, v in recipe.items() if k in names},
        }
    )
    config = TrainConfig(
        **{
            "batch_size": B,
            "sequence_length": T,
            "epochs": 2,
            "log_every": 5,
            **{k: v for k, v in recipe.items() if k not in names},
        }
    )
    trainer = Trainer(model, config, V, on_gpu=False)
    trainer.steps_per_call = 1
    begin = trainer.model.arrays(), trainer.states()

    def go_on(run: RunFolder, stop: int, read: Checkpoint | None = None) -> list[Any]:
        """Train until ``stop`` steps are done."""
        done: list[Any] = []
        training = training_of(
            trainer,
            run,
            (ids, IDS[:31]),
            model,
            read,
            stopped=lambda: sum(isinstance(r, StepReport) for r in done) >= stop,
        )
        done.extend(training.run())  # one by one: ``stopped`` counts them
        return done

    with new_run(tmp_path / "whole", overwrite=False) as run:
        whole = go_on(run, 99)
    count = sum(isinstance(report, StepReport) for report in whole)
    assert count == recipe.get("max_steps", 24)
    for stop in range(1, count):
        trainer.restore(*begin)
        with new_run(tmp_path / str(stop), overwrite=False) as run:
            first = go_on(run, stop)
        read = read_checkpoint(run.resume_path)
        trainer.reset_state()
        second = go_on(run, 99, read)
        steps = [report for report in first + second if isinstance(report, StepReport)]
        assert steps == [report for report in whole if isinstance(report, StepReport)]
        assert outcome(run.path) == outcome(tmp_path / "whole")
        if stop == 12:  # all steps of the first epoch were made before the stop
            report = next(report for report in second if isinstance(report, EpochReport))
            assert report.characters_per_second == 0


def weights_after(config: TrainConfig, steps: int) -> tuple[Any, list[list[Any]]]:
    """Return the initial weights, then for each step Keras's gradients and our new weights."""
    trainer = Trainer(MODEL, config, V, on_gpu=False)
    model = build_model(MODEL, V, batch_size=B, on_gpu=False)
    before = trainer.model.arrays()
    model.set_arrays(before)
    found = []
    for step in range(steps):
        window = tf.constant(Windows(IDS, B, T).window(step))
        with tf.GradientTape() as tape:
            logits = model(window[:, :-1])
            loss = tf.reduce_mean(
                keras.losses.sparse_categorical_crossentropy(
                    window[:, 1:], logits, from_logits=True
                )
            )
        gradients = [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]
        trainer.advance(window[None], tf.constant([config.learning_rate]), FIRST)
        after = trainer.model.arrays()
        model.set_arrays(after)
        found.append([gradients, after])
    return before, found


def settings(**options: Any) -> TrainConfig:
    return TrainConfig(batch_size=B, sequence_length=T, **options)


def test_adagrad_is_as_published_with_an_accumulator_that_starts_from_0() -> None:
    config = settings(optimizer="adagrad", learning_rate=0.05, epsilon=1e-12, clip_norm=0.0)
    weights, steps = weights_after(config, 3)
    sums = [np.zeros_like(array) for array in weights]
    for gradients, after in steps:
        sums = [s + g**2 for s, g in zip(sums, gradients, strict=True)]
        weights = [
            w - 0.05 * g / np.sqrt(s + 1e-12)
            for w, g, s in zip(weights, gradients, sums, strict=True)
        ]
        for expected, found in zip(weights, after, strict=True):
            assert_allclose(found, expected, atol=1e-4)  # g / sqrt(g^2) magnifies tiny gradients
        weights = after


@pytest.mark.parametrize("limit", [0.01, 100.0, 0.0])
def test_gradients_are_clipped_by_their_global_norm(limit: float) -> None:
    config = settings(optimizer="sgd", learning_rate=1.0, clip_norm=limit)
    before, [[gradients, after]] = weights_after(config, 1)
    norm = math.sqrt(sum(float(np.sum(g.astype(np.float64) ** 2)) for g in gradients))
    scale = limit / norm if 0 < limit < norm else 1.0
    for w, g, found in zip(before, gradients, after, strict=True):
        assert_allclose(found, w - scale * g, atol=1e-6)


@pytest.mark.parametrize("limit", [0.001, 100.0])
def test_gradients_are_clipped_by_value(limit: float) -> None:
    config = settings(optimizer="sgd", learning_rate=1.0, clip_value=limit, clip_norm=0.0)
    before, [[gradients, after]] = weights_after(config, 1)
    assert any((np.abs(g) > 0.001).any() for g in gradients)
    for w, g, found in zip(before, gradients, after, strict=True):
        assert_allclose(found, w - np.clip(g, -limit, limit), atol=1e-6)


@pytest.mark.parametrize("limits", [{"clip_value": 0.1}, {"clip_norm": 0.1}])
def test_a_step_with_infinite_gradients_is_skipped(limits: dict[str, float]) -> None:
    options = {"clip_norm": 0.0, "optimizer": "sgd", "precision": "float16", **limits}
    trainer = Trainer(MODEL, settings(**options), V, on_gpu=False)
    before = trainer.model.arrays()
    infinite = [tf.fill(array.shape, np.inf) for array in before]
    trainer._apply(infinite, tf.constant(2.0))  # noqa: SLF001 - the end of a step
    assert all(map(np.array_equal, before, trainer.model.arrays()))


def test_kernels_decay_and_biases_do_not() -> None:
    config = settings(optimizer="sgd", learning_rate=0.5, weight_decay=0.2, clip_norm=0.0)
    before, [[gradients, after]] = weights_after(config, 1)
    for w, g, found in zip(before, gradients, after, strict=True):
        kept = w if w.ndim == 1 else w * (1 - 0.5 * 0.2)
        assert_allclose(found, kept - 0.5 * g, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_average_of_the_weights_is_exponential_and_at_first_shorter(precision: str) -> None:
    config = settings(optimizer="sgd", learning_rate=0.5, average=0.2, precision=precision)
    trainer = Trainer(MODEL, config, V, on_gpu=False)
    expected: Any = None
    for step in range(6):
        window = tf.constant(Windows(IDS, B, T).window(step))
        trainer.advance(window[None], tf.constant([config.learning_rate]), FIRST)
        weights = list(trainer.model.arrays())
        keep = min(0.2, step / (step + 9))
        both = zip(expected or weights, weights, strict=True)
        expected = [keep * a + (1 - keep) * w for a, w in both]
    for found, mean, last in zip(trainer.saved_model().arrays(), expected, weights, strict=True):
        assert_allclose(found, mean, atol=1e-6)
        assert not np.allclose(mean, last, atol=1e-6)


def test_each_step_has_its_rate_in_the_schedule(tmp_path: Path) -> None:
    """A run that is given more epochs keeps its original schedule."""
    options: dict[str, Any] = {"schedule": "cosine", "warmup": 3, "learning_rate": 0.5}
    with training_in(tmp_path / "run", epochs=2, **options) as (trainer, reports):
        schedule = Schedule(trainer.config, STEPS)
        for report in reports:
            if isinstance(report, EpochReport):
                rate = schedule.rate(report.epoch, STEPS)
                assert float(trainer.optimizer.learning_rate) == pytest.approx(rate)
    run = RunFolder(tmp_path / "run")
    read = read_checkpoint(run.resume_path)
    config = replace(trainer.config, epochs=3, schedule_epochs=2)
    longer = Trainer(MODEL, config, V, on_gpu=False)
    reports = training_of(longer, run, (IDS, IDS[:0]), read=read).run()
    assert len([report for report in reports if isinstance(report, StepReport)]) == STEPS
    assert float(longer.optimizer.learning_rate) == pytest.approx(0.02 * 0.5)


def test_a_step_with_learning_rate_0_changes_nothing_and_the_next_step_does() -> None:
    trainer = Trainer(MODEL, settings(), V, on_gpu=False)
    before = trainer.model.arrays()
    window = Windows(IDS, B, T).window(0)[None]
    trainer.advance(window, tf.constant([0.0]), FIRST)
    assert all(map(np.array_equal, before, trainer.model.arrays()))
    trainer.advance(np.concatenate([window, window]), tf.constant([0.0, 0.1]), FIRST)
    assert not any(map(np.array_equal, before, trainer.model.arrays()))


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad", "sgd"])
def test_options_reach_the_optimizer(name: str) -> None:
    epsilon = None if name == "sgd" else 3e-5
    made = make_optimizer(settings(optimizer=name, learning_rate=0.03, epsilon=epsilon, rho=0.7))
    assert float(made.learning_rate) == pytest.approx(0.03)
    assert getattr(made, "epsilon", None) == epsilon
    assert getattr(made, "rho", 0.7) == 0.7
    assert type(made).__name__.lower() == name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_learns_nearly_the_same_and_files_are_float32(
    precision: str, tmp_path: Path
) -> None:
    part, options = IDS[:31], {"learning_rate": 0.02, "epochs": 6}
    whole = run_training(tmp_path / "whole", validation=part, **options)
    half = run_training(tmp_path / "half", validation=part, precision=precision, **options)
    differences = [abs(a.loss - b.loss) for a, b in zip(whole.steps, half.steps, strict=True)]
    learned = whole.epochs[0].train_loss - whole.epochs[-1].train_loss
    assert 0 < max(differences) < 0.05 < learned
    read = read_checkpoint(half.epochs[-1].path)
    model = build_model(MODEL, V, batch_size=1, on_gpu=False)
    model.set_arrays(read.weights)
    found = evaluate(model, part, sequence_length=64).nats_per_char
    assert half.epochs[-1].valid_loss == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize(
    ("first", "then"),
    [("float32", "float16"), ("float16", "bfloat16"), ("bfloat16", "float32")],
)
def test_a_training_continues_in_another_precision(first: str, then: str) -> None:
    windows = Windows(IDS, B, T)

    def train(trainer: Trainer) -> list[float]:
        """Make six steps with a learning rate at which Adam's moments and counter matter."""
        trainer.reset_state()
        window = tf.constant(np.stack([windows.window(step) for step in range(6)]))
        return list(trainer.advance(window, tf.fill([6], 0.02), FIRST).numpy())

    def made(precision: str) -> Trainer:
        config = settings(learning_rate=0.02, average=0.9, precision=precision)
        return Trainer(MODEL, config, V, on_gpu=False)

    def moments(trainer: Trainer) -> list[Any]:
        optimizer = trainer.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        return [variable.numpy() for variable in inner.variables]

    before, after, reference = made(first), made(then), made("float32")
    train(before)
    weights, states = before.model.arrays(), before.states()
    after.restore(weights, states)
    assert all(map(np.array_equal, moments(before), moments(after)))
    assert int(after.optimizer.iterations) == 6
    train(reference)
    assert train(after) == pytest.approx(train(reference), abs=0.02)


@pytest.mark.parametrize("limit", [0.01, 0.0])
def test_a_step_whose_scaled_gradients_overflow_is_skipped_and_the_scale_halved(
    limit: float,
) -> None:
    config = settings(optimizer="sgd", learning_rate=1.0, precision="float16", clip_norm=limit)
    trainer = Trainer(MODEL, config, V, on_gpu=False)
    before, window = trainer.model.arrays(), tf.constant(Windows(IDS, B, T).window(0))[None]
    trainer.optimizer.dynamic_scale.assign(2.0**40)  # the largest float16 is 65,504
    trainer.advance(window, tf.constant([trainer.config.learning_rate]), FIRST)
    assert all(map(np.array_equal, before, trainer.model.arrays()))
    assert float(trainer.optimizer.dynamic_scale) == 2.0**39
    trainer.optimizer.dynamic_scale.assign(2.0**10)
    trainer.advance(window, tf.constant([trainer.config.learning_rate]), FIRST)
    change = [b - a for a, b in zip(before, trainer.model.arrays(), strict=True)]
    norm = math.sqrt(sum(float(np.sum(part**2)) for part in change))
    assert norm == pytest.approx(limit, rel=1e-3) if limit else norm > limit


def test_hello_is_learned(tmp_path: Path) -> None:
    """The standard first example of character language models."""
    ids = np.array(Vocabulary("ehlo").encode("hello" * 40), np.uint8)
    config = TrainConfig(batch_size=2, sequence_length=5, epochs=15, learning_rate=0.02)
    model = ModelConfig(units=12, layers=1, dropout=0.1)
    with new_run(tmp_path / "run", overwrite=False) as run:
        trainer = Trainer(model, config, 4, on_gpu=False)
        letters = Vocabulary("ehlo")
        for _ in training_of(trainer, run, (ids, ids[:0]), model, letters=letters).run():
            pass
    assert Oracle(run.choose("best")).write("h", 19, 0, seed=0) == ("hello" * 4)[1:]


def test_a_loss_that_is_not_finite_ends_the_training_and_nothing_is_saved_after(
    tmp_path: Path,
) -> None:
    with pytest.raises(CharlstmError, match=r"epoch 1, step \d+: .*`learning_rate`") as error:
        run_training(tmp_path / "run", log_every=1, **{**STILL, "learning_rate": 1e38})
    assert "\n" not in str(error.value)
    found = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert found == [".lock", "history.jsonl", "resume.weights.h5"]
    assert read_checkpoint(tmp_path / "run/resume.weights.h5").position
    assert "NaN" not in (tmp_path / "run/history.jsonl").read_text()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The last step of an epoch can make them so, and no loss shows it."""
    with training_in(tmp_path / "run", max_steps=1) as (trainer, reports):
        next(reports)
        trainer.model.dense.kernel.assign(trainer.model.dense.kernel * np.inf)
        with pytest.raises(CharlstmError, match="epoch 1, at its end"):
            next(reports)
    assert not list((tmp_path / "run").glob("epoch-*"))


REPLICAS = """
import numpy as np
from charlstm.network.backend import tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.text.windows import Windows
from charlstm.training.step import Trainer, dropout_key
from charlstm.training.validation import validated
ids = np.resize(np.random.default_rng(5).integers(0, 7, 11), 40_000).astype(np.uint8)
windows, validation = Windows(ids[:9700], 8, 30), ids
strategies = [tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])]

class Run:
    # A training on one or two replicas, with several groups of lanes on each.
    def __init__(self, replicas, groups, optimizer, dropout, precision="float32"):
        self.model = ModelConfig(units=5, layers=2, dropout=dropout)
        config = TrainConfig(
            batch_size=8, sequence_length=30, clip_norm=0.05, optimizer=optimizer, average=0.5,
            precision=precision, accumulate=groups,
        )
        self.strategy = strategies[replicas - 1]
        with self.strategy.scope():
            self.trainer = Trainer(self.model, config, 7, on_gpu=False)
        self.rate = 0.01 if optimizer == "adam" else 0.5

    def train(self, start, stop):
        losses, calls = [], self.trainer.calls(start, stop)
        for call, element in zip(calls, self.trainer.dataset(windows, calls)):
            key = tf.constant(dropout_key(1, 1, call.start + 1), tf.int64)
            with self.strategy.scope():
                found = self.trainer.advance(element, tf.fill(len(call), self.rate), key)
            losses += found.numpy().tolist()
        return losses

    def save(self):
        return self.trainer.model.arrays(), self.trainer.states()

def near(one, two, tolerance):
    for a, b in zip(one, two, strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), (a, b)

def same(one, two, tolerance=1e-5):
    # Compare 40 steps, the weights, all states and the validation loss, from a saved state on.
    a, b = Run(*one), Run(*two)
    first = a.train(0, 20)
    near(first, b.train(0, 20), tolerance)
    assert first[0] - first[-1] > 0.01  # it learns
    b.trainer.restore(*a.save())
    near(a.train(20, 40), b.train(20, 40), tolerance)
    near(a.trainer.model.arrays(), b.trainer.model.arrays(), 10 * tolerance)
    saved, other = a.trainer.states(), b.trainer.states()
    for name in saved:
        assert saved[name].shape == other[name].shape
        assert np.allclose(saved[name], other[name], atol=10 * tolerance), name
    near(*([validated(run.trainer, validation)[1]] for run in (a, b)), tolerance)

"""


@pytest.mark.parametrize(
    "comparisons",
    [
        # With dropout, each group of lanes has masks of its own, wherever it is computed.
        """
same((2, 2, "adam", 0.3), (1, 4, "adam", 0.3))
same((1, 1, "adam", 0.0), (2, 1, "adam", 0.0))
""",
        pytest.param(
            """
for name in ("sgd", "adam"):
    for replicas, groups in ((1, 2), (1, 4), (2, 1), (2, 2)):
        same((1, 1, name, 0.0), (replicas, groups, name, 0.0))
same((2, 1, "adam", 0.3), (1, 2, "adam", 0.3))
same((1, 1, "adam", 0.0, "float16"), (2, 1, "adam", 0.0, "float16"), 1e-2)
same((1, 1, "adam", 0.0, "float16"), (2, 2, "adam", 0.0, "float16"), 1e-2)
""",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["some", "all"],
)
def test_a_batch_is_the_same_in_one_piece_in_groups_and_on_replicas(comparisons: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS + comparisons],
        capture_output=True,
        env=environment(),
        timeout=600,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_new_run_folder_appears_with_the_first_step(tmp_path: Path) -> None:
    with training_in(tmp_path / "run") as (_, reports):
        assert not (tmp_path / "run").exists()
        next(reports)
        assert (tmp_path / "run").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_training_that_overfits_says_so_once(tmp_path: Path) -> None:
    """Random letters can be memorised but not predicted."""
    validation = np.random.default_rng(6).integers(0, V, 60).astype(np.uint8)
    model = ModelConfig(units=24, layers=1, dropout=0.0)
    options = {"epochs": 12, "learning_rate": 0.02}
    with training_in(tmp_path / "run", model, validation, **options) as (_, reports):
        notes = [report.text for report in reports if isinstance(report, Note)]
    assert ["the model overfits" in note for note in notes] == [True]
