"""Prepare a training in a cluster: the chief decides, the other workers follow."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from charlstm.architecture import ModelConfig
from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.options import checked
from charlstm.run.claim import following_run
from charlstm.run.folder import RunFolder
from charlstm.text.encoding import Corpus, encode
from charlstm.text.vocabulary import Vocabulary
from charlstm.training.position import Position
from charlstm.training.preparation import Plan, Preparation
from charlstm.training.reports import Origin
from charlstm.training.settings import Settings

if TYPE_CHECKING:
    from charlstm.cluster import Cluster
    from charlstm.network.device import Device
    from charlstm.network.workers import Workers
    from charlstm.training.loop import Training


def join(preparation: Preparation) -> Training:
    """Return a training that all workers of a cluster take part in.

    Raises CharlstmError, in every worker, if one of them cannot take part.
    """
    from charlstm.network.workers import Workers, lost_workers

    if preparation.request.place.minutes is not None:
        raise CharlstmError(
            "works only for a single process", "use {epochs} or {max_steps}", option="minutes"
        )
    device = preparation.device
    with lost_workers(device.cluster):
        workers = Workers(device.strategy)
        if device.cluster.is_chief:
            plan = _decide(preparation, workers, device.cluster)
        else:
            plan = _follow(preparation, workers, device)
        return preparation.assembled(plan)


def _decide(preparation: Preparation, workers: Workers, cluster: Cluster) -> Plan:
    """Make the plan and tell it to the other workers, or tell them the error and raise it.

    Raises CharlstmError if another worker cannot follow.
    """
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
        "unknown": plan.corpus.vocabulary.has_unknown,
        "text": plan.corpus.sha256,
        "at": asdict(plan.at),
        "is_new": plan.is_new,
        "saved": plan.states is not None,
        "history": history.read_text("utf-8") if history.exists() else "",
    }
    workers.text_of_chief(json.dumps(told))
    _agree(cluster, workers)
    return plan


def _follow(preparation: Preparation, workers: Workers, device: Device) -> Plan:
    """Return the chief's plan for this worker, which has a copy of the text.

    Raises CharlstmError if the chief has none, or if this or another worker has another text.
    """
    told = json.loads(workers.text_of_chief(""))
    if "problem" in told:
        raise CharlstmError(f"{device.cluster.named(0)}: {told['problem']}")
    config = TrainConfig(**checked(told["config"], [TrainConfig]))
    run = preparation.resources.enter_context(following_run(told["history"]))
    try:
        corpus = _corpus(preparation, run, config, told)
    except CharlstmError as error:
        _agree(device.cluster, workers, str(error))
        raise
    _agree(device.cluster, workers)
    return Plan(
        Settings(ModelConfig(**told["model"]), config),
        device,
        corpus,
        run,
        Position(**told["at"]),
        Origin(),
        states={} if told["saved"] else None,  # the chief has them
        is_new=told["is_new"],
    )


def _corpus(
    preparation: Preparation, run: RunFolder, config: TrainConfig, told: dict[str, Any]
) -> Corpus:
    """Encode this worker's copy of the text with the chief's vocabulary.

    Raises CharlstmError if it is another text.
    """
    text = preparation.open(config)
    with preparation.spooled(text, run) as spooled:
        known = Vocabulary(told["vocabulary"], told["unknown"])
        corpus = encode(
            spooled,
            run.ids_path,
            preparation.advance(spooled),
            min_count=config.min_count,
            known=known,
        )
    if corpus.sha256 != told["text"]:
        raise CharlstmError(
            f"{text.name} is not the text of worker 1", "copy the same file to all hosts"
        )
    return corpus


def _agree(cluster: Cluster, workers: Workers, problem: str = "") -> None:
    """Tell the other workers of a problem, or of none.

    Raises CharlstmError, in all of them, if there is one in any of them.
    """
    for index, its in enumerate(workers.texts(problem)):
        if its:
            raise CharlstmError(f"{cluster.named(index)}: {its}")
