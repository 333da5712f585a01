"""The options of a training, resolved from the user's, a preset's, the run's or a base model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.architecture import USUAL, ModelConfig
from charlstm.config import DEMO, RUNS, TRAIN_OPTIONS, RunConfig, TrainConfig
from charlstm.errors import CharlstmError
from charlstm.options import is_utf8, options, read_toml, record_of
from charlstm.presets import read_config
from charlstm.run.naming import run_name

if TYPE_CHECKING:  # imported only when a training starts: they import numpy and h5py
    from charlstm.run.description import Description
    from charlstm.run.folder import RunFolder

USED_WITH = {  # option: the option that decides whether it is used, and the values that use it
    "rho": ("optimizer", ["rmsprop"]),
    "epsilon": ("optimizer", ["adam", "rmsprop", "adagrad"]),
    "schedule_epochs": ("schedule", ["cosine"]),
    "decay": ("schedule", ["exponential"]),
    "decay_after": ("schedule", ["exponential"]),
}
# To any value, when resuming.
CHANGEABLE = {"save_minutes", "log_every", "patience", "keep", "precision", "accumulate"}


@dataclass(frozen=True)
class Request:
    """A request for a training.

    ``texts`` are the paths of the texts; none means the demo text. ``typed`` are the options that
    the user typed. ``config`` is the preset or options file that the user named, ``saved`` its
    options.
    """

    texts: tuple[str, ...]
    typed: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None
    saved: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """The options that the user set; typed ones override saved ones."""
        values = {**self.saved, **self.typed}
        # Of two options for the weight decay, one counts. A run saves both: what was asked for, and
        # what that meant for its text.
        if "weight_decay" in self.typed:
            values["weight_decay_epochs"] = None
        elif "weight_decay_epochs" in values:
            values.pop("weight_decay", None)
        return values

    @property
    def place(self) -> RunConfig:
        """The options of this run alone, such as its folder and device."""
        return record_of(RunConfig, self.given)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.place.run or RUNS / run_name(next(iter(self.texts), DEMO)))


def _never() -> bool:
    return False


def _unheard(_total: int, _more: int) -> None:
    pass


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a training, called while it starts and runs.

    ``stopped`` is called between steps; True makes the training save and end. ``encoding`` is
    called with the total number of bytes to read from the text, and the number just read.
    """

    stopped: Callable[[], bool] = _never
    encoding: Callable[[int, int], object] = _unheard


@dataclass(frozen=True)
class Settings:
    """The options of a training, checked against each other.

    Raises CharlstmError if they conflict.
    """

    model: ModelConfig
    config: TrainConfig

    def __post_init__(self) -> None:
        """Refuse options that conflict."""
        if problem := self.model.problem():
            option, message = problem
            raise CharlstmError(message, "leave it out, or use another {cell}", option=option)
        if not is_utf8(self.config.init_from or ""):
            raise CharlstmError(
                "the path is not UTF-8, so config.toml cannot store it",
                "rename it",
                option="init_from",
            )
        for name in ("join", "record_separator", "include", "exclude"):
            if not all(map(is_utf8, getattr(self.config, name))):
                raise CharlstmError("not UTF-8, so config.toml cannot store it", option=name)
        check_groups(self.config)
        if self.config.patience and not self.config.validation:
            raise CharlstmError(
                "there is no validation loss to watch", "raise {validation}", option="patience"
            )


def check_groups(config: TrainConfig, replicas: int = 1) -> None:
    """Check that a batch can be split into equal groups of lanes.

    Raises CharlstmError if it cannot.
    """
    groups = replicas * config.accumulate
    lower = config.batch_size // groups * groups
    if lower < config.batch_size:
        sizes = [str(size) for size in (lower, lower + groups) if size]
        raise CharlstmError(
            f"a batch of {config.batch_size} lanes cannot be split into {groups} equal groups",
            f"use {{batch_size}} {' or '.join(sizes)}, or another number of groups",
            option="accumulate" if replicas == 1 else "replicas",
        )


def new_settings(
    request: Request, *, preset: str | None = None, base: Description | None = None
) -> Settings:
    """Return the options of a new run: the user's, or else the preset's, or else the defaults.

    ``base``, the model to fine-tune, decides the architecture. Raises CharlstmError for an option
    that conflicts with it.
    """
    values = {**(read_config(preset, TRAIN_OPTIONS) if preset else {}), **request.given}
    model, config = record_of(ModelConfig, values), record_of(TrainConfig, values)
    problem = model.problem()
    if problem and "cell" in request.typed and problem[0] not in request.typed:
        del values[problem[0]]  # which a preset set for another cell
        model = record_of(ModelConfig, values)
    _check_used(config, request, settled=bool(preset or request.config))
    if base:
        _check_weights(model, base, request)
        dropout = model.dropout if "dropout" in request.typed else base.model.dropout
        model = replace(base.model, dropout=dropout)
    return Settings(model, config)


def _check_used(config: TrainConfig, request: Request, *, settled: bool) -> None:
    """Refuse a typed option that the other options leave without effect.

    Unless ``settled``, the optimizer or schedule counts as chosen only if it was typed. Raises
    CharlstmError.
    """
    for name, (choice, users) in USED_WITH.items():
        chosen = getattr(config, choice)
        decided = settled or choice in request.typed
        if name in request.typed and decided and chosen not in users:
            raise CharlstmError(
                f"{chosen} does not use it",
                f"leave it out, or use {{{choice}}} {' or '.join(users)}",
                option=name,
            )
    if {"weight_decay", "weight_decay_epochs"} <= request.typed.keys():
        raise CharlstmError(
            "another option chooses it",
            "leave it out, or {weight_decay_epochs}",
            option="weight_decay",
        )
    if request.typed.get("calibrate") and not config.validation:
        raise CharlstmError(
            "there is no validation loss to lower", "raise {validation}", option="calibrate"
        )


def _check_weights(model: ModelConfig, base: Description, request: Request) -> None:
    """Refuse typed options that conflict with the weights of the base model.

    Raises CharlstmError.
    """
    for item in options(ModelConfig):
        new, old = getattr(model, item.name), getattr(base.model, item.name)
        new, old = _meant(item.name, new), _meant(item.name, old)
        if item.name in request.typed.keys() - {"dropout"} and new != old:
            raise CharlstmError(
                f"the base model has {old}, not {new}",
                "leave it out, or train without {init_from}",
                option=item.name,
            )
    if "initializer" in request.typed:
        raise CharlstmError(
            "the base model decides the initial weights",
            "leave it out, or train without {init_from}",
            option="initializer",
        )


def _meant(name: str, value: Any) -> Any:
    """Return what the value of an option stands for: None may stand for the usual one."""
    return USUAL.get(name) if value is None else value


def resumed_settings(request: Request, run: RunFolder) -> Settings:
    """Return the options of a run, updated with the given ones that may change.

    Raises CharlstmError for a new value of an option that may not change.
    """
    lost = "restore it, or start again with {overwrite}"
    path = run.config_path
    used = read_toml(path, str(path), (ModelConfig, TrainConfig), missing=lost)
    used["precision"] = "auto"  # the saved one, unless the device does not support it
    for item in options(ModelConfig, TrainConfig):
        old = used.setdefault(item.name, item.default)
        new = request.given.get(item.name, old)
        before = _meant(item.name, old)
        if _meant(item.name, new) == before:
            continue
        if item.name not in CHANGEABLE and not (item.name == "epochs" and new > old):
            way = "it can only be raised" if item.name == "epochs" else "leave it out"
            if item.name not in request.typed:
                way = "leave out {config}"
            raise CharlstmError(
                f"the run in {run.path} has {'none' if before is None else before}, not {new}",
                f"{way}, or train another run with {{run}}",
                option=item.name,
            )
        if item.name == "epochs":  # the schedule keeps its original length
            used["schedule_epochs"] = used.get("schedule_epochs") or old
        used[item.name] = new
    return Settings(record_of(ModelConfig, used), record_of(TrainConfig, used))
