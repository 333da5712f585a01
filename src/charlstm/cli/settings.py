"""Which options a training has: as given, of a preset, of its run, of a model to begin with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm.cli.options import record_of
from charlstm.config import RUNS, ModelConfig, RunConfig, TrainConfig, options, read_toml
from charlstm.errors import CharlstmError

if TYPE_CHECKING:  # for real only when the command runs: h5py
    from charlstm.checkpoint import Checkpoint
    from charlstm.run_folder import RunFolder

RECORDS = (ModelConfig, TrainConfig, RunConfig)
DEMO = "demo"
USERS = {  # of an option: the option that settles whether it is used, and at which values
    "rho": ("optimizer", ["rmsprop"]),
    "epsilon": ("optimizer", ["adam", "rmsprop", "adagrad"]),
    "schedule_epochs": ("schedule", ["cosine"]),
    "decay": ("schedule", ["exponential"]),
    "decay_after": ("schedule", ["exponential"]),
}
MAY_CHANGE = {"save_minutes", "log_every", "patience", "keep"}  # at resume, to anything


@dataclass(frozen=True)
class Command:
    """What the command line asks for.

    ``text`` is None for the demo's; ``config`` is the saved command line that was named, or demo.
    ``typed`` are the options given on the command line or in the environment, ``given`` those, too,
    that the user's saved command line has.
    """

    text: str | None
    config: str | None
    values: dict[str, Any]
    typed: set[str]
    given: set[str]

    @property
    def place(self) -> RunConfig:
        """Where the training runs."""
        return record_of(RunConfig, self.values)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return Path(self.place.run or RUNS / Path(self.text or DEMO).stem)

    def again(self) -> str:
        """Return what to type to go on."""
        run = ["--run", self.place.run] if self.place.run else []
        more = ["--tensorboard"] if self.place.tensorboard else []
        return shlex.join(["charlstm", "train", self.text or "--demo", "--resume", *run, *more])


@dataclass(frozen=True)
class Settings:
    """The options of a training; ``base`` has the weights it begins with, ``old`` if it goes on."""

    model: ModelConfig
    config: TrainConfig
    base: Checkpoint | None = None
    old: bool = False

    def __post_init__(self) -> None:
        """Refuse options that do not go together.

        Raises CharlstmError.
        """
        problem = self.model.problem()
        if problem:
            raise CharlstmError(f"--activation: {problem}; leave it out, or use --cell rnn")
        if self.config.patience and not self.config.validation:
            raise CharlstmError(
                "--patience: there is no validation to judge by; raise --validation"
            )


def settings(
    command: Command, *, preset: str | None = None, base: Checkpoint | None = None
) -> Settings:
    """Return the options of a new run: as given, or else the preset's, or else the defaults.

    ``base`` settles the architecture. Raises CharlstmError for what does not go with it.
    """
    values = dict(command.values)
    if preset:
        found = read_toml(preset, RECORDS)
        values |= {name: value for name, value in found.items() if name not in command.given}
    model, config = record_of(ModelConfig, values), record_of(TrainConfig, values)
    _check_used(config, command, settled=bool(preset or command.config))
    if base:
        for item in options(ModelConfig):
            new, old = getattr(model, item.name), getattr(base.model, item.name)
            if item.name in command.typed - {"dropout"} and new != old:
                raise CharlstmError(
                    f"{item.flag} {new}: {config.init_from} has {old or 'none'}; leave it out, "
                    "or begin without --init-from"
                )
        dropout = model.dropout if "dropout" in command.typed else base.model.dropout
        model = replace(base.model, dropout=dropout)
    return Settings(model, config, base)


def _check_used(config: TrainConfig, command: Command, *, settled: bool) -> None:
    """Refuse what is typed for another optimizer or schedule than the one there is.

    As long as not all is ``settled``, that must be typed, too. Raises CharlstmError.
    """
    for name, (choice, users) in USERS.items():
        chosen = getattr(config, choice)
        if name in command.typed and (settled or choice in command.typed) and chosen not in users:
            raise CharlstmError(
                f"--{name.replace('_', '-')}: --{choice} {chosen} does not use it; leave it out, "
                f"or use {' or '.join(users)}"
            )


def settings_of_run(run: RunFolder, command: Command) -> Settings:
    """Return the options of a run, but for those given now that may change.

    Raises CharlstmError for another value of one that may not.
    """
    used = read_toml(run.config_path, (ModelConfig, TrainConfig))
    for item in options(ModelConfig, TrainConfig):
        new, old = command.values[item.name], used.setdefault(item.name, item.default)
        given = item.name in command.given
        if not given or new == old or (item.name == "precision" and new == "auto"):
            continue
        if item.name not in MAY_CHANGE and not (item.name == "epochs" and new > old):
            raise CharlstmError(
                f"{item.flag} {new}: the run in {run.path} has {'none' if old is None else old}; "
                "leave it out, or train another run with --run"
            )
        if item.name == "epochs":  # its schedule stays as it was begun
            used["schedule_epochs"] = used.get("schedule_epochs") or old
        used[item.name] = new
    return Settings(record_of(ModelConfig, used), record_of(TrainConfig, used), old=True)
