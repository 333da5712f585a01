import math
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from charlstm.architecture import ModelConfig
from charlstm.cli._sample_options import SampleConfig
from charlstm.config import TRAIN_OPTIONS, TrainConfig
from charlstm.errors import CharlstmError
from charlstm.options import options, to_toml
from charlstm.presets import preset_for, presets, read_config
from charlstm.run.folder import RunFolder
from charlstm.training.optimizer import with_weight_decay
from charlstm.training.settings import Request, new_settings, resumed_settings


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads(name: str) -> None:
    values = read_config(name, TRAIN_OPTIONS)
    for record in (ModelConfig, TrainConfig):
        record(**{item.name: values[item.name] for item in options(record) if item.name in values})


def test_the_presets_are_three_sizes_a_demo_and_three_other_programs() -> None:
    ours = ["demo", "large", "medium", "small"]
    assert presets() == sorted([*ours, "char-rnn", "keras-2016", "min-char-rnn"])


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        (0, "small"),
        (299_999, "small"),
        (300_000, "medium"),
        (19_999_999, "medium"),
        (20_000_000, "large"),
        (10**12, "large"),
    ],
)
def test_a_preset_is_chosen_by_the_length_of_the_training_text(characters: int, name: str) -> None:
    assert preset_for(characters) == name


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("batch-size = 3", "unknown key 'batch-size'; did you mean batch_size?"),
        ("wat = 3", "unknown key 'wat'; known keys: layers, units,"),
        ('units = "3"', "units must be a whole number, not '3'"),
        ("units = true", "units must be a whole number, not True"),
        ("units = 3.5", "units must be a whole number, not 3.5"),
        ("units = 0", "units must be at least 1, not 0"),
        ("dropout = 1", "dropout must be at least 0 and below 1, not 1"),
        ("learning_rate = 0.0", "learning_rate must be above 0, not 0.0"),
        ("learning_rate = nan", "learning_rate must be above 0, not nan"),
        ("learning_rate = inf", "learning_rate must be above 0 and below 9.2e+18, not inf"),
        ('optimizer = "lion"', "optimizer must be one of adam, rmsprop, adagrad, sgd, not 'lion'"),
        ('config = "x"', "unknown key 'config'"),
        ("units = ", "not a TOML file"),
        ("units = 1" + "0" * 4000, "units must be at least 1 and below 9.2e+18, not 1000"),
        ("learning_rate = 1" + "0" * 4000, "learning_rate must be above 0 and below 9.2e+18, not"),
        ("units = " + "9" * 5000, "not a TOML file"),
        ("units = " + "[" * 10_000, "not a TOML file"),
        ("u.n.i.t.s = 1", "unknown key 'u'; known keys: "),
        ("[units]", "units must be a whole number, not {}"),
        ("units = 1979-05-27", "units must be a whole number, not datetime.date(1979, 5, 27)"),
        ("'" + "u" * 10_000 + "' = 1", "unknown key 'uuu"),
        ("'\\u001b[2J' = 1", r"unknown key '\\u001b[2J'"),
        ('"\\u001b[2J" = 1', r"unknown key '\x1b[2J'"),
        ("units = 1\nunits = 2", "not a TOML file"),
        ("units." + ".".join("a" * 8_000) + " = 1", "units must be a whole number, not {'a'"),
        ("#" * 2**15, "too long for saved options: over 16,384 bytes"),
        ("\0", "not a TOML file"),
        ("\udcff", "not a TOML file"),
    ],
)
def test_an_invalid_file_is_one_line_with_its_name_and_key(
    line: str, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(line, "utf-8", "surrogateescape")
    with pytest.raises(CharlstmError) as error:
        read_config(str(path), TRAIN_OPTIONS)
    assert str(error.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 500


def test_a_missing_file_lists_the_presets(tmp_path: Path) -> None:
    with pytest.raises(CharlstmError, match=r"no-such.*char-rnn, demo, keras-2016"):
        read_config(str(tmp_path / "no-such"), TRAIN_OPTIONS)


def test_written_options_read_the_same(tmp_path: Path) -> None:
    values = {"units": 7, "dropout": 0.25, "epsilon": 1e-12, "max_steps": None, "optimizer": "sgd"}
    path = tmp_path / "config.toml"
    path.write_text(to_toml(values), "utf-8")
    del values["max_steps"]
    assert read_config(str(path), TRAIN_OPTIONS) == values == tomllib.loads(path.read_text("utf-8"))


def test_every_default_is_in_its_own_range() -> None:
    for item in options(*TRAIN_OPTIONS, SampleConfig):
        assert not item.problem(item.default), item.name


def test_a_length_is_inf_or_an_integer_that_a_float_represents_exactly() -> None:
    (length,) = [item for item in options(SampleConfig) if item.name == "length"]
    assert not any(map(length.problem, ["0", "9" * 15, "inf"]))
    assert int(SampleConfig(length="9" * 15).characters) == 10**15 - 1
    for wrong in ("", "-1", "1.5", "nan", "9" * 16, "9" * 309, "٣"):
        assert length.problem(wrong).startswith("must be a whole number of at most 15 digits")


def test_an_epoch_is_best_last_or_a_number() -> None:
    (epoch,) = [item for item in options(SampleConfig) if item.name == "epoch"]
    assert not any(map(epoch.problem, ["best", "last", "1", "12"]))
    assert all(map(epoch.problem, ["", "0", "-1", "1.5", "worst", "best "]))


def chosen(preset: str | None, config: str | None = None, **typed: Any) -> TrainConfig:
    """Return the options of a training with these on its command line."""
    saved = read_config(config, TRAIN_OPTIONS) if config else {}
    return new_settings(Request(("x",), typed, config, saved), preset=preset).config


@pytest.mark.parametrize(
    ("config", "typed", "users"),
    [
        (None, {"rho": 0.5}, "rmsprop"),
        (None, {"decay": 0.5}, "exponential"),
        (None, {"decay_after": 1}, "exponential"),
        (None, {"schedule": "constant", "schedule_epochs": 3}, "cosine"),
        (None, {"optimizer": "sgd", "epsilon": 1e-5}, "adam or rmsprop or adagrad"),
        ("char-rnn", {"optimizer": "adam", "rho": 0.5}, "rmsprop"),
        ("char-rnn", {"schedule_epochs": 3}, "cosine"),
    ],
)
def test_an_option_of_another_optimizer_or_schedule_is_refused(
    config: str | None, typed: dict[str, Any], users: str
) -> None:
    preset = None if config else "small"
    with pytest.raises(CharlstmError, match=f"does not use it; .* or use .* {users}$") as error:
        chosen(preset, config, **typed)
    assert error.value.option == list(typed)[-1]


def test_a_configuration_may_have_options_of_another_optimizer_or_schedule() -> None:
    """A run's own configuration has every option; a preset's optimizer can be replaced."""
    assert chosen(None, "char-rnn", optimizer="adam", schedule="cosine").rho == 0.95
    assert chosen(None, "char-rnn", rho=0.5, decay=0.5, decay_after=3).decay == 0.5
    assert chosen("large", schedule_epochs=3).schedule == "cosine"
    assert chosen(None, schedule_epochs=3, rho=0.5)  # a preset may use it


def test_a_preset_s_gates_are_dropped_for_a_typed_cell_without_gates() -> None:
    preset = read_config("keras-2016", TRAIN_OPTIONS)
    request = Request(("x",), {"cell": "rnn"}, "keras-2016", preset)
    assert new_settings(request).model.nonlinearity == "tanh"
    typed = {"cell": "rnn", "recurrent_activation": "hard_sigmoid"}
    with pytest.raises(CharlstmError, match="hard_sigmoid needs an lstm or gru cell, not rnn"):
        new_settings(replace(request, typed=typed))


def test_a_typed_weight_decay_replaces_the_preset_s_choice_by_its_effect() -> None:
    assert chosen("medium").weight_decay_epochs
    found = chosen("medium", weight_decay=0.1)
    assert (found.weight_decay, found.weight_decay_epochs) == (0.1, None)
    assert chosen("medium", weight_decay_epochs=9.0).weight_decay_epochs == 9
    # A run's own configuration has both: the second chose the first.
    both = {"weight_decay": 0.25, "weight_decay_epochs": 4.1}
    again = new_settings(Request(("x",), {}, "config.toml", both)).config
    assert with_weight_decay(again, 490).weight_decay == 0.25
    typed = new_settings(Request(("x",), {"weight_decay": 0.3}, "config.toml", both)).config
    assert with_weight_decay(typed, 490).weight_decay == 0.3
    other = {"weight_decay_epochs": 9.0}
    found = new_settings(Request(("x",), other, "mine.toml", {"weight_decay": 0.3})).config
    assert with_weight_decay(found, 490).weight_decay == 0.11
    with pytest.raises(CharlstmError, match="another option chooses it"):
        chosen("medium", weight_decay=0.1, weight_decay_epochs=4.0)


@pytest.mark.parametrize("typed", [{}, {"weight_decay": 0.1}, {"weight_decay_epochs": 9.0}])
@pytest.mark.parametrize(
    "saved", [{}, {"weight_decay": 0.3}, {"weight_decay_epochs": 4.1}, {"weight_decay": 0.0}]
)
def test_the_same_command_resumes_a_run_with_either_option(
    typed: dict[str, Any], saved: dict[str, Any], tmp_path: Path
) -> None:
    request = Request(("x",), typed, "mine.toml", saved)
    started = new_settings(request)
    used = {**asdict(started.model), **asdict(with_weight_decay(started.config, 490))}
    run = RunFolder(tmp_path)
    run.config_path.write_text(to_toml(used), "utf-8")
    assert resumed_settings(request, run).config == with_weight_decay(started.config, 490)


@pytest.mark.parametrize("steps", [7, 490, 100_000])
@pytest.mark.parametrize("epochs", [0.5, 4.1])
def test_weight_decay_epochs_shrink_an_idle_weight_to_1_over_e(steps: int, epochs: float) -> None:
    config = TrainConfig(learning_rate=0.002, weight_decay_epochs=epochs)
    decay = with_weight_decay(config, steps).weight_decay
    left = (1 - 0.002 * decay) ** (steps * epochs)
    assert left == pytest.approx(math.exp(-1), rel=0.2 if steps == 7 else 0.03)
