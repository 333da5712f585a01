"""``charlstm sample``."""

from __future__ import annotations

import json
import math
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from charlstm.cli._console import Console
from charlstm.cli._interrupt import interruptible
from charlstm.cli._options import GroupedCommand, complete_file, options_of, typed_epoch
from charlstm.cli._output import check_file, write_to
from charlstm.cli._sample_options import SampleConfig
from charlstm.cli._stdio import tell, write_raw, write_text
from charlstm.cli._stream import Ending, Piece, end_line, in_colour, shaded, stream
from charlstm.cli._text import check_utf8, decoded, read_prime
from charlstm.config import SEED_LIMIT
from charlstm.errors import CharlstmError
from charlstm.options import record_of
from charlstm.text.display import visible

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from numpy.typing import NDArray

    from charlstm.run.weights import Checkpoint
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

    Text appears on standard output while it is sampled; with --samples, --json or -o, once it is
    complete. CHECKPOINT is a run folder or a weights file; by default, the newest run under
    checkpoints/.

    Sampling divides the logits by --temperature, then applies --top-k, --top-p and --min-p in this
    order.

    \b
    charlstm sample --prime "LSTM based" --length 500
    charlstm sample checkpoints/input/epoch-003.weights.h5 --temperature 0.7 --seed 1
    charlstm sample --prime-file chapter.txt --hide-prime --stop "THE END" --length inf
    """
    config = record_of(SampleConfig, values)
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
    whole = [name for name, value in (("--json", config.json), ("-o", config.output)) if value]
    whole += ["--samples"] if config.samples > 1 else []
    if whole and (config.length == "inf" or config.interactive):
        streaming = "--interactive" if config.interactive else "--length inf"
        raise click.UsageError(f"{streaming} streams a single text; leave out {whole[0]}.")
    if config.interactive and config.length == "inf":
        raise click.UsageError("--interactive needs a finite --length: every answer must end.")
    if config.interactive and config.hide_prime:
        raise click.UsageError("--interactive shows no prime; leave out --hide-prime.")
    if config.interactive and config.prime_file == "-":
        raise click.UsageError("--interactive reads standard input, so --prime-file cannot.")


def _sample(named: str | None, config: SampleConfig, epoch: str | None) -> None:
    """Read a model and a prime, then sample."""
    from charlstm.run.find import load_checkpoint

    check_utf8("prime", config.prime)
    check_utf8("stop", *config.stop)
    check_utf8("separator", config.separator)
    path, checkpoint = load_checkpoint(named, epoch)
    if config.output:
        check_file(config.output, path, *filter(None, [config.prime_file]))
    _check_stops(config, checkpoint.vocabulary)
    ids = read_prime(config, checkpoint.vocabulary)
    seed = secrets.randbelow(SEED_LIMIT) if config.seed is None else config.seed
    note = f"epoch {checkpoint.epoch} of {path}"
    tell(f"{note}, seed {seed}" if config.seed is None else note)

    from charlstm.network.device import memory_errors, select_device

    device = select_device(config.device)
    with memory_errors(f"{{samples}} (now {config.samples:,})"):
        _draw(checkpoint, ids, seed, config, on_gpu=device.on_gpu)


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
    checkpoint: Checkpoint, ids: NDArray[Any], seed: int, config: SampleConfig, *, on_gpu: bool
) -> None:
    """Sample from a prime, or hold a conversation."""
    from charlstm.drawing import Filters
    from charlstm.sampling import Sampler

    vocabulary = checkpoint.vocabulary
    filters = Filters(config.top_k, config.top_p, config.min_p, config.allow_unknown)
    sampler = Sampler(checkpoint, on_gpu=on_gpu, samples=config.samples, filters=filters)
    opened = ids if len(ids) else vocabulary.encode(vocabulary.opening())
    if config.interactive:
        from charlstm.cli.interactive import Conversation, converse

        converse(Conversation(sampler, vocabulary, config, opened, seed))
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
    if config.samples > 1 or config.json or config.output:
        _finish(_whole(drawn, config), prime, seed, config)
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


@dataclass
class _Text:
    """A text that is printed when it is complete."""

    ending: Ending
    text: str = ""
    nats: list[float] = field(default_factory=list)

    def add(self, text: str, nats: Iterable[float]) -> None:
        self.text += text
        self.nats += nats


def _whole(drawn: Iterator[list[Piece]], config: SampleConfig) -> list[_Text]:
    """Sample until every text is complete."""
    texts = [_Text(Ending(config.stop)) for _ in range(config.samples)]
    for pieces in drawn:
        for text, piece in zip(texts, pieces, strict=True):
            text.add(*text.ending.take(*piece))
        if all(text.ending.complete for text in texts):
            break
    for text in texts:
        text.add(*text.ending.rest())
    return texts


def _finish(texts: list[_Text], prime: str, seed: int, config: SampleConfig) -> None:
    """Write complete texts, to the output file if there is one."""
    if config.json:
        records = (_account(text, prime, seed, stream) for stream, text in enumerate(texts))
        write_to(config.output, "".join(f"{json.dumps(record)}\n" for record in records))
    elif in_colour(wanted=config.color) and not config.output:
        coloured = (shaded(text.text, text.nats) for text in texts)
        write_raw(_joined(coloured, visible(prime), config))
    else:
        write_to(config.output, _joined((text.text for text in texts), prime, config))


def _joined(texts: Iterable[str], prime: str, config: SampleConfig) -> str:
    """Return the texts, each after the prime, with separator lines between them."""
    shown = [("" if config.hide_prime else prime) + text for text in texts]
    line = f"{config.separator}\n" if config.separator else ""
    return shown[0] if len(shown) == 1 else line.join(f"{text}\n" for text in shown)


def _account(text: _Text, prime: str, seed: int, stream: int) -> dict[str, Any]:
    return {
        "text": text.text,
        "prime": prime,
        "seed": seed,
        "stream": stream,
        "stop": "text" if text.ending.complete else "length",
        "characters": len(text.text),
        "nats": math.fsum(text.nats),
    }
