"""``charlstm sample --records``: whole records of a model that was trained on records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli._console import Console
from charlstm.cli._interrupt import interruptible
from charlstm.cli._output import write_to
from charlstm.cli._sample_options import SampleConfig
from charlstm.cli._stdio import tell, write_text
from charlstm.errors import CharlstmError

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from numpy.typing import NDArray

    from charlstm.records import Record, RecordSampler, Tally
    from charlstm.run.weights import Checkpoint
    from charlstm.text.fingerprints import Fingerprints


def check(config: SampleConfig) -> None:
    """Refuse options that contradict each other."""
    if config.records is None:
        return
    others = {
        "--samples": config.samples > 1,
        "--stop": config.stop,
        "--interactive": config.interactive,
        "--color": config.color,
        "--copied": config.copied,
        "--hide-prime": config.hide_prime,
    }
    given = [name for name, value in others.items() if value]
    if given:
        raise click.UsageError(f"--records draws whole records; leave out {given[0]}.")


def draw_records(
    checkpoint: Checkpoint, path: Path, prime: NDArray[Any], seed: int, config: SampleConfig
) -> None:
    """Draw records, write each with its separator, and say how many were drawn.

    Raises CharlstmError if the model knows no records, or its run has no list of them.
    """
    assert config.records is not None
    if not checkpoint.separator:
        raise CharlstmError(
            "the model was not trained on records", "train with {records}", option="records"
        )
    index = _index(path, config)

    from charlstm.drawing import filters_of
    from charlstm.network.device import memory_errors, select_device
    from charlstm.records import RecordSampler, Wanted

    wanted = Wanted(config.records, config.max_length, config.unique, config.novel, index)
    on_gpu = select_device(config.device).on_gpu
    sampler = RecordSampler(checkpoint, prime, wanted, on_gpu=on_gpu, filters=filters_of(config))
    lines = _lines(sampler, checkpoint, seed, config)
    with memory_errors("{records}"):
        if config.output:
            write_to(config.output, "".join(lines))
        else:
            for line in lines:
                write_text(line)
    _report(sampler.tally, config)


def _index(path: Path, config: SampleConfig) -> Fingerprints | None:
    """Return the fingerprints of the records that the run was trained on, if it has them.

    Raises CharlstmError if it has none and they are needed.
    """
    from charlstm.run.folder import RunFolder
    from charlstm.text.fingerprints import read_index

    file = RunFolder(path.parent).index_path("records")
    try:
        index = read_index(file)
    except OSError as error:
        if not config.novel:
            return None
        raise CharlstmError(
            f"{file}: {error.strerror}; the run's training keeps its records there",
            "sample from the run's own folder",
            option="novel",
        ) from None
    return index if len(index) else None


def _lines(
    sampler: RecordSampler, checkpoint: Checkpoint, seed: int, config: SampleConfig
) -> Iterator[str]:
    console = Console()
    drawn = sampler.draw(temperature=config.temperature, seed=seed)
    for records in interruptible(drawn):
        if config.output:
            console.advance("sampling", config.records or 0, len(records), " records")
        yield "".join(_line(record, checkpoint, config) for record in records)
    console.close()
    if config.json:
        yield f"{json.dumps(_account(sampler.tally))}\n"


def _line(record: Record, checkpoint: Checkpoint, config: SampleConfig) -> str:
    text = checkpoint.vocabulary.decode(record.ids)
    if not config.json:
        return text + checkpoint.separator
    novel = {} if record.novel is None else {"novel": record.novel}
    return f"{json.dumps({'text': text, 'nats': record.nats, **novel})}\n"


def _account(tally: Tally) -> dict[str, int]:
    return {name: value for name, value in asdict(tally).items() if value is not None}


def _report(tally: Tally, config: SampleConfig) -> None:
    """Say what was drawn, and whether that is less than was asked for."""
    shares = [f"{tally.unique:,} unique"]
    if tally.novel is not None:
        shares.append(f"{tally.novel:,} not in the training text")
    shares.append(f"{tally.too_long:,} longer than {config.max_length:,} characters")
    tell(f"drawn:   {tally.drawn:,} records, of them {', '.join(shares)}")
    if config.records and tally.given < config.records:
        tell(f"note:    only {tally.given:,} of {config.records:,} records: no more are found")
