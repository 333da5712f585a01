"""Prepare a training from a request: options, text, folder, device and position.

Text and folder are checked before TensorFlow is imported: the import is slow, and the user should
see errors at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING

from charlstm.architecture import ModelConfig, Weights
from charlstm.cluster import Cluster
from charlstm.config import DEMO, TrainConfig
from charlstm.errors import CharlstmError
from charlstm.files import write_errors
from charlstm.options import options, to_toml
from charlstm.presets import preset_for
from charlstm.rendezvous import meet
from charlstm.run.claim import new_run, old_run, recover_run
from charlstm.run.find import load_checkpoint
from charlstm.run.folder import CHOOSE_ANOTHER, RunFolder
from charlstm.text.collection import Collection, Input, collect
from charlstm.text.encoding import Corpus, oddities, training_characters
from charlstm.text.opening import codec, demo_text
from charlstm.training.corpus import (
    corpus_of_new_run,
    corpus_of_old_run,
    divided,
    index_records,
    refuse_run_of_another_text,
)
from charlstm.training.finetuning import fit
from charlstm.training.position import Position, beginning, finished, position_of
from charlstm.training.reports import Origin
from charlstm.training.settings import (
    Hooks,
    Request,
    Settings,
    check_groups,
    new_settings,
    resumed_settings,
)

if TYPE_CHECKING:
    from charlstm.network.device import Device
    from charlstm.run.description import Description
    from charlstm.run.weights import Array
    from charlstm.training.loop import Training


@dataclass(frozen=True)
class Plan:
    """What a training needs to be built: all is decided and checked.

    It begins at ``at`` with these ``weights``, or else with those of the seed, and ``states``, or
    else with zeros and a new optimizer.
    """

    settings: Settings
    device: Device
    corpus: Corpus
    run: RunFolder
    at: Position
    origin: Origin
    weights: Weights[Array] | None = None
    states: Mapping[str, Array] | None = None
    is_new: bool = field(kw_only=True)  # nothing has been saved yet


@dataclass(frozen=True, eq=False)
class Preparation:
    """The steps that turn a request into a plan, and the data that they share."""

    request: Request
    hooks: Hooks
    resources: contextlib.ExitStack
    cluster: Cluster
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=monotonic)

    def plan(self) -> Plan:
        """Return the plan: to resume if that is asked for and there is a run, or else to begin."""
        place = self.request.place
        if place.resume and place.overwrite:
            raise CharlstmError("a run is resumed or replaced, not both", option="overwrite")
        if place.tensorboard and find_spec("tensorboard") is None:
            raise CharlstmError(
                "TensorBoard is not installed",
                "pip install 'charlstm[tensorboard]'",
                option="tensorboard",
            )
        recover_run(self.request.folder)
        run = RunFolder(self.request.folder)
        return self._resume(run) if place.resume and run.exists() else self._begin()

    def _begin(self) -> Plan:
        request, base = self.request, None
        preset = DEMO if not request.texts and not request.config else None
        settings = new_settings(request, preset=preset)
        if settings.config.init_from:
            _, base = load_checkpoint(settings.config.init_from)
            # Check the architecture before the text is read, which can take long.
            new_settings(request, preset=preset, base=base)
        text = self.open(settings.config)
        overwrite, tell = request.place.overwrite, self.notes.append
        if not overwrite and not text.has_pipes:
            refuse_run_of_another_text(text, RunFolder(request.folder))
        claim = new_run(request.folder, overwrite=overwrite, tell=tell)
        run = self.resources.enter_context(claim)
        known, min_count = base.vocabulary if base else None, settings.config.min_count
        with self.spooled(text, run) as text:
            advance, cache = self.advance(text), request.place.cache
            corpus = corpus_of_new_run(text, run, cache, advance, min_count=min_count, known=known)
        self.notes.extend(f"{text.name}: {note}" for note in oddities(corpus))
        if not preset and not request.config:
            count = training_characters(len(corpus.ids), settings.config.validation)
            preset = preset_for(count)
        settings = new_settings(request, preset=preset, base=base)
        minutes = request.place.minutes
        if minutes is not None:
            settings = self._in_time(settings, corpus, minutes)

        described = base.described() if base else None
        origin = Origin(request.config, preset, described, minutes=minutes)
        device, settings = self._on_device(settings, corpus)
        at = beginning(len(corpus.vocabulary))
        weights = fit(base, corpus.vocabulary) if base else None
        return Plan(settings, device, corpus, run, at, origin, weights, is_new=True)

    def _resume(self, run: RunFolder) -> Plan:
        settings = resumed_settings(self.request, run)
        text = self.open(settings.config)
        run = self.resources.enter_context(old_run(self.request.folder, self.notes.append))
        with self.spooled(text, run) as text:
            corpus = corpus_of_old_run(text, run, self.advance(text))

        checkpoint, damage = run.last_state()
        at = position_of(checkpoint, settings.model, corpus, run)
        origin = Origin(resumed=checkpoint.described(), damage=damage)
        device, settings = self._on_device(settings, corpus, origin.resumed)
        states = None if checkpoint.position is None else checkpoint.states
        weights = checkpoint.weights
        return Plan(settings, device, corpus, run, at, origin, weights, states, is_new=False)

    def _in_time(self, settings: Settings, corpus: Corpus, minutes: float) -> Settings:
        """Return settings for a training that ends in so many minutes after the command began."""
        from charlstm.training.budget import in_time

        device, settings = self._on_device(settings, corpus)
        fixed = {*self.request.given, *(["units"] if settings.config.init_from else [])}
        if settings.config.accumulate * device.replicas > 1:
            fixed.add("batch_size")  # other sizes might not split into equal groups
        return in_time(self.began + 60 * minutes, settings, corpus, device, fixed=fixed)

    @cached_property
    def device(self) -> Device:
        """The device, selected when it is first needed; that is where workers meet."""
        from charlstm.network.device import select_device

        place = self.request.place
        if self.cluster.size == 1:
            return select_device(place.device, place.replicas)
        return select_device(place.device, place.replicas, self.cluster, self._meet)

    def _meet(self, devices: str) -> None:
        """Wait for the other workers, and compare versions, devices and options with theirs."""
        from charlstm.training.clock import versions

        found, given, place = versions(), self.request.given, self.request.place
        brought = {name: found[name] for name in ("charlstm", "tensorflow", "keras")}
        shared = {item.name for item in options(ModelConfig, TrainConfig)}
        brought |= {"devices": devices, **{n: v for n, v in given.items() if n in shared}}
        meet(self.cluster, brought, place.start_timeout)

    def _on_device(
        self, settings: Settings, corpus: Corpus, resumed: Description | None = None
    ) -> tuple[Device, Settings]:
        """Select the device; return it, and the settings with what depends on it and on the text.

        That is the precision, and the weight decay of each step.
        """
        from charlstm.network.device import choose_precision
        from charlstm.training.optimizer import with_weight_decay

        device, config = self.device, settings.config
        check_groups(config, device.replicas)
        saved = resumed.training.get("precision", "float32") if resumed else None
        precision = choose_precision(config.precision, device, saved=saved)
        windows, _ = divided(corpus, config)
        config = with_weight_decay(replace(config, precision=precision), windows.steps)
        return device, replace(settings, config=config)

    def assembled(self, plan: Plan) -> Training:
        """Return the training of a plan."""
        from charlstm.training.loop import Training
        from charlstm.training.step import make_trainer
        from charlstm.training.tensorboard import Events
        from charlstm.training.views import Views

        model, config, run = plan.settings.model, plan.settings.config, plan.run
        windows, validation = divided(plan.corpus, config)
        index_records(plan.corpus, config, run)
        if not finished(plan.at, config, windows.steps, run):
            run.write_config(to_toml({**asdict(model), **asdict(config)}))
        tensorboard = self.request.place.tensorboard and self.cluster.is_chief
        events = Events(run, windows.steps, config.max_steps) if tensorboard else None
        trainer = make_trainer(model, config, len(plan.corpus.vocabulary), plan.device)
        trainer.restore(plan.weights, plan.states)
        return Training(
            model=model,
            corpus=plan.corpus,
            windows=windows,
            validation=validation,
            run_folder=run,
            trainer=trainer,
            device=plan.device,
            at=plan.at,
            is_new=plan.is_new,
            origin=plan.origin,
            views=Views(run, events) if self.cluster.is_chief else None,
            stopped=self.hooks.stopped,
            notes=tuple(self.notes),
            resources=self.resources,
        )

    def open(self, config: TrainConfig) -> Input:
        """Open the text, or find all the files that it consists of."""
        if not self.request.texts:
            return demo_text(config.separator)
        sources = collect(self.request.texts, include=config.include, exclude=config.exclude)
        join = config.join or config.separator
        return Collection(sources, join, codec(config.encoding), config.separator)

    @contextlib.contextmanager
    def spooled(self, text: Input, run: RunFolder) -> Iterator[Input]:
        """Copy what pipes give into temporary files in the run's folder; yield the text."""
        with write_errors(run.place, CHOOSE_ANOTHER), text.spooled(run.path) as copied:
            yield copied

    def advance(self, text: Input) -> Callable[[int], object]:
        """Return what to call with the number of bytes just read from a text."""
        return partial(self.hooks.encoding, 2 * text.stamp()[0])  # the text is read twice
