"""Prepare a training from a request: options, text, folder, device and position.

Text and folder are checked before TensorFlow is imported: the import is slow, and the user should
see errors at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from charlstm.config import DEMO, TrainConfig, preset_for
from charlstm.errors import CharlstmError
from charlstm.options import to_toml
from charlstm.run.claim import new_run, old_run, recover_run
from charlstm.run.find import load_checkpoint
from charlstm.run.folder import RunFolder
from charlstm.text.encoding import (
    Corpus,
    is_unchanged,
    line_end_note,
    training_characters,
)
from charlstm.text.source import Text, demo_text, open_text
from charlstm.training.corpus import corpus_of_new_run, corpus_of_old_run, divided
from charlstm.training.finetuning import fit
from charlstm.training.position import Position, beginning, finished, position_of
from charlstm.training.reports import Origin
from charlstm.training.settings import (
    Hooks,
    Request,
    Settings,
    check_groups,
    free_folder,
    new_settings,
    resumed_settings,
)

if TYPE_CHECKING:
    from charlstm.network.backend import Device
    from charlstm.run.description import Description
    from charlstm.training.loop import Training


@dataclass(frozen=True)
class Preparation:
    """The steps that turn a request into a training, and the data that they share."""

    request: Request
    hooks: Hooks
    resources: contextlib.ExitStack
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=monotonic)

    def training(self) -> Training:
        """Return the training: resumed if that is asked for and there is a run, or else new."""
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

    def _begin(self) -> Training:
        request, base = self.request, None
        preset = DEMO if request.text is None and not request.config else None
        settings = new_settings(request, preset=preset)
        if settings.config.init_from:
            _, base = load_checkpoint(settings.config.init_from)
            # Check the architecture before the text is read, which can take long.
            new_settings(request, preset=preset, base=base)
        text = self._open()
        self._refuse_run_of_another_text(text)
        overwrite, tell = request.place.overwrite, self.notes.append
        claim = new_run(request.folder, overwrite=overwrite, tell=tell)
        run = self.resources.enter_context(claim)
        extra = base.vocabulary.characters if base else ""
        corpus = corpus_of_new_run(text, run, extra, self._advance(text))
        if line_end_note(corpus):
            self.notes.append(f"{text.name}: {line_end_note(corpus)}")
        if not preset and not request.config:
            count = training_characters(len(corpus.ids), settings.config.validation)
            preset = preset_for(count)
        settings = new_settings(request, preset=preset, base=base)
        minutes = request.place.minutes
        if minutes is not None:
            settings = self._in_time(settings, corpus, minutes)

        described = base.described() if base else None
        origin = Origin(request.config, preset, described, minutes=minutes)
        at = beginning(len(corpus.vocabulary))
        training = self._assembled(settings, corpus, run, at=at, origin=origin)
        if base:
            training.trainer.model.set_arrays(fit(base, corpus.vocabulary))
        return training

    def _resume(self, run: RunFolder) -> Training:
        settings = resumed_settings(self.request, run)
        text = self._open()
        run = self.resources.enter_context(old_run(self.request.folder, self.notes.append))
        corpus = corpus_of_old_run(text, run, self._advance(text))

        checkpoint, damage = run.last_state()
        at = position_of(checkpoint, settings.model, corpus, run)
        origin = Origin(resumed=checkpoint.described(), damage=damage)
        training = self._assembled(settings, corpus, run, at=at, origin=origin)
        training.trainer.restore(checkpoint)
        return training

    def _in_time(self, settings: Settings, corpus: Corpus, minutes: float) -> Settings:
        """Return settings for a training that ends in so many minutes after the command began."""
        from charlstm.training.budget import in_time

        device, config = self._on_device(settings.config)
        settings = replace(settings, config=config)
        fixed = {*self.request.given, *(["units"] if config.init_from else [])}
        if config.accumulate * device.replicas > 1:
            fixed.add("batch_size")  # other sizes might not split into equal groups
        return in_time(self.began + 60 * minutes, settings, corpus, device, fixed=fixed)

    def _on_device(
        self, config: TrainConfig, resumed: Description | None = None
    ) -> tuple[Device, TrainConfig]:
        """Select the device; return it, and the options with the precision that it computes in."""
        from charlstm.network.backend import choose_precision, select_device

        place = self.request.place
        device = select_device(place.device, place.replicas)
        check_groups(config, device.replicas)
        saved = resumed.training.get("precision", "float32") if resumed else None
        precision = choose_precision(config.precision, device, saved=saved)
        return device, replace(config, precision=precision)

    def _assembled(
        self, settings: Settings, corpus: Corpus, run: RunFolder, *, at: Position, origin: Origin
    ) -> Training:
        """Select the device, and build the training on it."""
        from charlstm.training.loop import Training
        from charlstm.training.optimizer import with_weight_decay
        from charlstm.training.step import make_trainer
        from charlstm.training.tensorboard import Events
        from charlstm.training.views import Views

        model, config, place = settings.model, settings.config, self.request.place
        windows, validation = divided(corpus, config)
        device, config = self._on_device(config, origin.resumed)
        config = with_weight_decay(config, windows.steps)
        if not finished(at, config, windows.steps, run):
            run.write_config(to_toml({**asdict(model), **asdict(config)}))
        events = Events(run, windows.steps, config.max_steps) if place.tensorboard else None
        return Training(
            model=model,
            corpus=corpus,
            windows=windows,
            validation=validation,
            run_folder=run,
            trainer=make_trainer(model, config, len(corpus.vocabulary), device),
            device=device,
            at=at,
            origin=origin,
            views=Views(run, events),
            stopped=self.hooks.stopped,
            notes=tuple(self.notes),
            resources=self.resources,
        )

    def _refuse_run_of_another_text(self, text: Text) -> None:
        """Check that the folder holds no run of another text with the same name.

        Raises CharlstmError if it does.
        """
        folder, run = self.request.folder, RunFolder(self.request.folder)
        if self.request.place.overwrite or not run.exists():
            return
        identity = run.read_corpus()
        if identity and not is_unchanged(text, identity):
            free = free_folder(Path(text.name))
            raise CharlstmError(
                f"{folder}: contains a run of another text ({free} is free)",
                "choose another folder with {run}, or replace it with {overwrite}",
            )

    def _open(self) -> Text:
        return demo_text() if self.request.text is None else open_text(self.request.text)

    def _advance(self, text: Text) -> Callable[[int], object]:
        return partial(self.hooks.encoding, 2 * text.stamp()[0])  # the text is read twice
