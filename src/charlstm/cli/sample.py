"""``charlstm sample``."""

from __future__ import annotations

import io
import json
import math
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlstm.cli.interrupt import interruptible
from charlstm.cli.options import complete_file, options_of, record_of
from charlstm.cli.output import check_file, write_to
from charlstm.cli.stream import Drawn, Ending, end_line, in_colour, shaded, stream, write
from charlstm.config import SEED_LIMIT, SampleConfig
from charlstm.errors import CharlstmError

if TYPE_CHECKING:  # for real only when a command runs: numpy
    from numpy.typing import NDArray

    from charlstm import sampling
    from charlstm.checkpoint import Checkpoint
    from charlstm.corpus import Text
    from charlstm.vocabulary import Vocabulary


@click.command()
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]", shell_complete=complete_file)
@options_of(SampleConfig)
@click.pass_context
def sample(context: click.Context, /, checkpoint: str | None, **values: Any) -> None:
    """Let a trained model write.

    The prime and what the model goes on with are written to standard output as they come; several
    --samples, and --json, when all is drawn. CHECKPOINT is the folder of a run or one weights
    file; without it, the newest run under checkpoints/.

    Of --top-k, --top-p and --min-p each works on what the one before it left, at the temperature.

    \b
    charlstm sample --prime "LSTM based" --length 500
    charlstm sample checkpoints/input/epoch-003.weights.h5 --temperature 0.7 --seed 1
    charlstm sample --prime-file chapter.txt --hide-prime --stop "THE END" --length inf
    """
    epoch_given = context.get_parameter_source("epoch") is not ParameterSource.DEFAULT
    config = record_of(SampleConfig, values)
    _check(config)
    _sample(checkpoint, config, epoch_given=epoch_given)


def _check(config: SampleConfig) -> None:
    """Refuse options that contradict each other."""
    filters = {"--top-k": config.top_k, "--top-p": config.top_p, "--min-p": config.min_p}
    given = [name for name, value in filters.items() if value is not None]
    if given and not config.temperature:
        raise click.UsageError(f"--temperature 0 leaves nothing to draw; leave out {given[0]}.")
    if config.prime and config.prime_file:
        raise click.UsageError("Give --prime or --prime-file, not both.")
    whole = [name for name, value in (("--json", config.json), ("-o", config.output)) if value]
    whole += ["--samples"] if config.samples > 1 else []
    if whole and (config.length == "inf" or config.interactive):
        streaming = "--interactive" if config.interactive else "--length inf"
        raise click.UsageError(f"{streaming} is one text, shown as it comes; leave out {whole[0]}.")
    if config.interactive and config.length == "inf":
        raise click.UsageError("--interactive: every answer needs an end; give a --length.")
    if config.interactive and config.hide_prime:
        raise click.UsageError("--interactive shows no prime; leave out --hide-prime.")
    if config.interactive and config.prime_file == "-":
        raise click.UsageError("--interactive reads standard input, so --prime-file cannot.")


def _sample(path: str | None, config: SampleConfig, *, epoch_given: bool) -> None:
    from charlstm.runs import read_weights

    texts = {"--prime": (config.prime,), "--stop": config.stop, "--separator": (config.separator,)}
    for name, values in texts.items():
        check_utf8(name, *values)
    weights, checkpoint = read_weights(path, config.epoch, epoch_given=epoch_given)
    if config.output:
        check_file(config.output, weights, *filter(None, [config.prime_file]))
    ids = _prime(config, checkpoint.vocabulary)
    seed = secrets.randbelow(SEED_LIMIT) if config.seed is None else config.seed
    note = f"epoch {checkpoint.epoch} of {weights}"
    click.echo(f"{note}, seed {seed}" if config.seed is None else note, err=True)

    from charlstm import backend

    device = backend.select_device(config.device)
    with backend.named_memory(f"--samples (now {config.samples:,})"):
        _write(checkpoint, ids, seed, config, cudnn=device.cudnn)


def _write(
    checkpoint: Checkpoint, ids: NDArray[Any], seed: int, config: SampleConfig, *, cudnn: bool
) -> None:
    """Draw what goes on from a prime, or answer what is typed."""
    from charlstm.sampling import Filters, Sampler

    vocabulary = checkpoint.vocabulary
    filters = Filters(config.top_k, config.top_p, config.min_p)
    sampler = Sampler(checkpoint, cudnn=cudnn, samples=config.samples, filters=filters)
    opened = ids if len(ids) else vocabulary.encode(opening(vocabulary))
    if config.interactive:
        from charlstm.cli.interactive import converse

        sampler.begin(opened, seed=seed)
        converse(sampler, vocabulary, config, lambda: sampler.begin(opened, seed=seed))
        return
    pieces = sampler.sample(opened, config.characters, temperature=config.temperature, seed=seed)
    drawn = (decoded(piece, vocabulary) for piece in interruptible(pieces))
    prime = vocabulary.decode(ids)
    if config.samples > 1 or config.json or config.output:
        _finish(_whole(drawn, config), prime, seed, config)
    else:
        _stream(prime, (texts[0] for texts in drawn), config)


def check_utf8(name: str, *texts: str) -> None:
    """Refuse what came from bytes of the command line that were no UTF-8.

    Raises CharlstmError naming the option.
    """
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise CharlstmError(f"{name}: not UTF-8; does the terminal use another encoding?") from None


def _prime(config: SampleConfig, vocabulary: Vocabulary) -> NDArray[Any]:
    """Return the ids of the prime; say what was left out of it."""
    from charlstm.corpus import open_once

    file = config.prime_file
    text = typed("--prime", config.prime) if file is None else open_once(file)
    return read_ids(text, vocabulary, config.unknown)


def typed(name: str, text: str) -> Text:
    """Return a text that is no file: it gets a byte order mark to lose, and keeps its own."""
    from charlstm.corpus import Text

    return Text(name, io.BytesIO(text.encode("utf-8-sig")))


def read_ids(text: Text, vocabulary: Vocabulary, unknown: str) -> NDArray[Any]:
    """Return the ids of a text that the model is to read; say what was left out of it."""
    import numpy as np

    from charlstm.corpus import Reading

    reading = Reading(text, vocabulary)
    ids = np.concatenate([np.zeros(0, np.int32), *reading.ids()], dtype=np.int32)
    note = reading.account(unknown)
    if note:
        click.echo(note, err=True)
    return ids


def opening(vocabulary: Vocabulary) -> str:
    """Return what a text without a prime goes on from: a newline, or the first character."""
    return "\n" if "\n" in vocabulary.characters else vocabulary.characters[0]


def decoded(piece: sampling.Drawn, vocabulary: Vocabulary) -> list[Drawn]:
    """Return what was drawn in each text."""
    return [
        (vocabulary.decode(ids), nats.tolist())
        for ids, nats in zip(piece.ids, piece.nats, strict=True)
    ]


def _stream(prime: str, drawn: Iterable[Drawn], config: SampleConfig) -> None:
    """Write one text as it comes."""
    colour = in_colour(wanted=config.color)
    try:
        if not config.hide_prime:
            write(prime)
        stream(drawn, Ending(config.stop), colour=colour)
    finally:
        if sys.stdout.isatty():
            end_line(colour=colour)


@dataclass
class _Text:
    """A text that is shown when it is whole."""

    ending: Ending
    text: str = ""
    nats: list[float] = field(default_factory=list)

    def add(self, text: str, nats: Iterable[float]) -> None:
        self.text += text
        self.nats += nats


def _whole(drawn: Iterator[list[Drawn]], config: SampleConfig) -> list[_Text]:
    """Draw until every text has come to its end."""
    texts = [_Text(Ending(config.stop)) for _ in range(config.samples)]
    for pieces in drawn:
        for text, piece in zip(texts, pieces, strict=True):
            text.add(*text.ending.take(*piece))
        if all(text.ending.found for text in texts):
            break
    for text in texts:
        text.add(*text.ending.rest())
    return texts


def _finish(texts: list[_Text], prime: str, seed: int, config: SampleConfig) -> None:
    """Write whole texts, to the file if there is one."""
    if config.json:
        content = "".join(
            f"{json.dumps(_account(text, prime, seed, stream))}\n"
            for stream, text in enumerate(texts)
        )
    else:
        colour = in_colour(wanted=config.color) and not config.output
        before = "" if config.hide_prime else prime
        shown = [before + (shaded(t.text, t.nats) if colour else t.text) for t in texts]
        line = f"{config.separator}\n" if config.separator else ""
        content = shown[0] if len(shown) == 1 else line.join(f"{text}\n" for text in shown)
    if config.output:
        write_to(config.output, content)
    else:
        write(content)


def _account(text: _Text, prime: str, seed: int, stream: int) -> dict[str, Any]:
    return {
        "text": text.text,
        "prime": prime,
        "seed": seed,
        "stream": stream,
        "stop": "text" if text.ending.found else "length",
        "characters": len(text.text),
        "nats": math.fsum(text.nats),
    }
