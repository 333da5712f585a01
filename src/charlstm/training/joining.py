"""Prepare a training in a cluster: the chief decides, the other workers follow."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.run.claim import following_run
from charlstm.text.encoding import encode
from charlstm.training.position import Position
from charlstm.training.preparation import Plan, Preparation
from charlstm.training.reports import Origin
from charlstm.training.settings import Settings

if TYPE_CHECKING:
    from charlstm.cluster import Cluster
    from charlstm.network.device import Device
    from charlstm.network.workers import Workers


def join(preparation: Preparation) -> Plan:
    """Return the plan of a training that all workers of a cluster take part in.

    Raises CharlstmError, in every worker, if one of them cannot take part.
    """
    from charlstm.network.workers import Workers

    if preparation.request.place.minutes is not None:
        raise CharlstmError(
            "works only for a single process", "use {epochs} or {max_steps}", option="minutes"
        )
    device = preparation.device
    workers = Workers(device.strategy)
    if not device.cluster.is_chief:
        return _follow(preparation, workers, device)
    plan = _decide(preparation, workers)
    with _agreement(device.cluster, workers):
        return plan


def _decide(preparation: Preparation, workers: Workers) -> Plan:
    """Make the plan and tell it to the other workers, or tell them the error and raise it."""
    try:
        plan = preparation.plan()
    except CharlstmError as error:
        workers.text_of_chief(json.dumps({"problem": str(error)}))
        raise
    history = plan.run.history_path
    told = {
        "model": asdict(plan.settings.model),
        "config": asdict(plan.settings.config),
        "vocabulary": plan.corpus.vocabulary.characters,
        "text": plan.corpus.sha256,
        "at": asdict(plan.at),
        "is_new": plan.is_new,
        "saved": plan.states is not None,
        "history": history.read_text("utf-8") if history.exists() else "",
    }
    workers.text_of_chief(json.dumps(told))
    return plan


def _follow(preparation: Preparation, workers: Workers, device: Device) -> Plan:
    """Return the chief's plan for this worker, which has a copy of the text.

    Raises CharlstmError if the chief has none, or if this or another worker has another text.
    """
    told = json.loads(workers.text_of_chief(""))
    if "problem" in told:
        raise CharlstmError(f"{device.cluster.named(0)}: {told['problem']}")
    run = preparation.resources.enter_context(following_run(told["history"]))
    with _agreement(device.cluster, workers):
        text = preparation.open()
        corpus = encode(text, run.ids_path, preparation.advance(text), extra=told["vocabulary"])
        if corpus.sha256 != told["text"]:
            raise CharlstmError(
                f"{text.name} is not the text of worker 1", "copy the same file to all hosts"
            )
    return Plan(
        Settings(ModelConfig(**told["model"]), TrainConfig(**told["config"])),
        device,
        corpus,
        run,
        Position(**told["at"]),
        Origin(),
        states={} if told["saved"] else None,  # the chief has them
        is_new=told["is_new"],
    )


@contextlib.contextmanager
def _agreement(cluster: Cluster, workers: Workers) -> Iterator[None]:
    """Raise CharlstmError in all workers if the block raised one in any of them."""
    problem = ""
    try:
        yield
    except CharlstmError as error:
        problem = str(error)
    for index, its in enumerate(workers.texts(problem)):
        if its:
            raise CharlstmError(f"{cluster.named(index)}: {its}")
