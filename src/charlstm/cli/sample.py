"""``charlstm sample``."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli import _records
from charlstm.cli._console import Console
from charlstm.cli._copied import passage_index
from charlstm.cli._interrupt import interruptible
from charlstm.cli._options import (
    GroupedCommand,
    complete_file,
    options_of,
    refuse_with,
    refuse_without,
    typed_epoch,
)
from charlstm.cli._output import check_file
from charlstm.cli._sample_options import SampleConfig
from charlstm.cli._stdio import tell, write_text
from charlstm.cli._stream import Ending, Piece, end_line, in_colour, stream
from charlstm.cli._text import check_utf8, decoded, read_and_tell, read_prime
from charlstm.cli._whole import write_whole
from charlstm.config import SEED_LIMIT
from charlstm.errors import CharlstmError
from charlstm.inference import AdaptOptions
from charlstm.options import options, record_of

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from numpy.typing import NDArray

    from charlstm.run.weights import Checkpoint
    from charlstm.text.passages import PassageIndex
    from charlstm.text.vocabulary import Vocabulary

# Characters: a prime this long is printed only once it has been read, since reading it may show a
# progress bar.
LONG_PRIME = 2048


@click.command(cls=GroupedCommand)
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]", shell_complete=complete_file)
@options_of(SampleConfig)
@click.pass_context
def sample(context: click.Context, /, checkpoint: str | None, **values: Any) -> None:
    """Generate text with a trained model.

    Text appears on standard output while it is sampled; with --json, --samples, -o or --copied,
    once it is complete. CHECKPOINT is a run folder or a weights file; by default, the newest run
    under checkpoints/.

    Sampling divides the logits by --temperature, then applies --top-k, --top-p and --min-p in this
    order.

    \b
    charlstm sample --prime "LSTM based" --length 500
    charlstm sample checkpoints/input/epoch-003.weights.h5 --temperature 0.7 --seed 1
    charlstm sample --prime-file chapter.txt --hide-prime --stop "THE END" --length inf
    charlstm sample checkpoints/names --records 100 --unique --novel
    """
    config = record_of(SampleConfig, values)
    if not config.interactive:  # which can turn it on later
        refuse_without(context, "adapt", *(item.name for item in options(AdaptOptions)))
    refuse_without(context, "records", "unique", "novel", "max_length")
    refuse_with(context, "records", "length", "separator")
    _check(config)
    _sample(checkpoint, config, typed_epoch(context))


def _check(config: SampleConfig) -> None:
    """Refuse options that contradict each other."""
    filters = {"--top-k": config.top_k, "--top-p": config.top_p, "--min-p": config.min_p}
    given = [name for name, value in filters.items() if value is not None]
    if given and not config.temperature:
        raise click.UsageError(f"--temperature 0 always takes the likeliest; leave out {given[0]}.")
    if config.prime and config.prime_file:
        raise click.UsageError("Give --prime or --prime-file, not both.")
    complete = {"--json": config.json, "-o": config.output, "--copied": config.copied}
    whole = [name for name, value in complete.items() if value]
    whole += ["--samples"] if config.samples > 1 else []
    if whole and (config.length == "inf" or config.interactive):
        streaming = "--interactive" if config.interactive else "--length inf"
        raise click.UsageError(f"{streaming} streams a single text; leave out {whole[0]}.")
    if config.interactive and config.length == "inf":
        raise click.UsageError("--interactive needs a finite --length: every answer must end.")
    if config.interactive and config.hide_prime:
        raise click.UsageError("--interactive shows no prime; leave out --hide-prime.")
    _records.check(config)
    stdin = {"--interactive": config.interactive, "--adapt": config.adapt == "-"}
    stdin["--prime-file"] = config.prime_file == "-"
    readers = [name for name, reads in stdin.items() if reads]
    if len(readers) > 1:
        raise click.UsageError(f"{readers[0]} reads standard input, so {readers[1]} cannot.")


def _sample(named: str | None, config: SampleConfig, epoch: str | None) -> None:
    """Read a model and a prime, then sample."""
    from charlstm.run.find import load_checkpoint

    check_utf8("prime", config.prime)
    check_utf8("stop", *config.stop)
    check_utf8("separator", config.separator)
    path, checkpoint = load_checkpoint(named, epoch)
    if config.output:
        check_file(config.output, path, *filter(None, [config.prime_file, config.adapt]))
    _check_stops(config, checkpoint.vocabulary)
    ids = read_prime(config, checkpoint.vocabulary)
    seed = secrets.randbelow(SEED_LIMIT) if config.seed is None else config.seed
    note = f"epoch {checkpoint.epoch} of {path}"
    tell(f"{note}, seed {seed}" if config.seed is None else note)

    if config.adapt:
        checkpoint = _adapted(checkpoint, config.adapt, config)
    if config.records:
        _records.draw_records(checkpoint, path, ids, seed, config)
        return
    passages = passage_index(path, checkpoint.vocabulary) if config.copied else None

    from charlstm.network.device import memory_errors

    with memory_errors(f"{{samples}} (now {config.samples:,})"):
        _draw(checkpoint, ids, seed, config, passages)


def _adapted(checkpoint: Checkpoint, path: str, config: SampleConfig) -> Checkpoint:
    """Return the model after it has learned from a text.

    Raises CharlstmError if the text cannot be read, or is too short.
    """
    from charlstm.text.opening import open_once
    from charlstm.text.reading import check_length

    text = open_once(path, config.encoding)
    ids = read_and_tell(text, checkpoint.vocabulary, config.unknown)
    check_length(text.name, len(ids))

    from charlstm.adaptation import Learner

    with closing(Console()) as console:
        tick = partial(console.advance, "learning", len(ids) - 1)
        return Learner(checkpoint, config, config.device).learn(ids, tick)


def _check_stops(config: SampleConfig, vocabulary: Vocabulary) -> None:
    """Warn of stop texts with characters outside the vocabulary.

    Raises CharlstmError if sampling would never end because of them.
    """
    from charlstm.text.vocabulary import describe

    impossible = {s: set(s) - set(vocabulary.characters) for s in config.stop}
    impossible = {stop: unknown for stop, unknown in impossible.items() if unknown}
    for stop, unknown in impossible.items():
        why = f"{stop!r} can never appear: the vocabulary lacks {describe(min(unknown))}"
        if config.length == "inf" and len(impossible) == len(set(config.stop)):
            hint = "type a line end as $'\\n'" if "\\" in stop else "choose another"
            raise CharlstmError(why, hint, option="stop")
        tell(f"note:    --stop: {why}")


def _draw(
    checkpoint: Checkpoint,
    ids: NDArray[Any],
    seed: int,
    config: SampleConfig,
    passages: PassageIndex | None,
) -> None:
    """Sample from a prime, or hold a conversation."""
    from charlstm.drawing import filters_of
    from charlstm.network.device import select_device
    from charlstm.sampling import Sampler

    vocabulary, on_gpu = checkpoint.vocabulary, select_device(config.device).on_gpu
    filters = filters_of(config)
    sampler = Sampler(checkpoint, on_gpu=on_gpu, samples=config.samples, filters=filters)
    opened = ids if len(ids) else vocabulary.encode(checkpoint.opening)
    if config.interactive:
        from charlstm.cli.interactive import Conversation, converse

        converse(Conversation(sampler, vocabulary, config, opened, seed, checkpoint))
        return
    console = Console()
    pieces = sampler.sample(
        opened,
        config.characters,
        temperature=config.temperature,
        seed=seed,
        tick=partial(console.advance, "reading", len(opened)),
    )
    drawn = (_shown(console, decoded(piece, vocabulary)) for piece in interruptible(pieces))
    prime = vocabulary.decode(ids)
    if config.samples > 1 or config.json or config.output or passages:
        write_whole(drawn, (prime, seed), config, vocabulary, passages)
    else:
        _stream(prime, (texts[0] for texts in drawn), config)


def _shown(console: Console, texts: list[Piece]) -> list[Piece]:
    """Remove the progress bar of the prime; return the texts unchanged."""
    console.close()
    return texts


def _stream(prime: str, drawn: Iterable[Piece], config: SampleConfig) -> None:
    """Write one text as it is sampled, after its prime; a long prime is first read to its end."""
    colour = in_colour(wanted=config.color)
    if len(prime) >= LONG_PRIME:
        drawn = _begun(drawn)
    try:
        if not config.hide_prime:
            write_text(prime)
        stream(drawn, Ending(config.stop), colour=colour)
    finally:
        if sys.stdout.isatty():
            end_line(colour=colour)


def _begun(drawn: Iterable[Piece]) -> Iterable[Piece]:
    """Sample the first piece now; return an iterator over all pieces."""
    pieces = iter(drawn)
    return chain(list(islice(pieces, 1)), pieces)
