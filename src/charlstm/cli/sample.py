"""``charlstm sample``."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from charlstm.cli.interrupt import interruptible
from charlstm.cli.options import options_of, record_of
from charlstm.config import SEED_LIMIT, SampleConfig
from charlstm.errors import CharlstmError

if TYPE_CHECKING:
    from charlstm.vocabulary import Vocabulary  # for real only when a command runs: numpy


@click.command()
@click.argument("checkpoint", required=False, metavar="[CHECKPOINT]")
@options_of(SampleConfig)
@click.pass_context
def sample(context: click.Context, /, checkpoint: str | None, **values: Any) -> None:
    """Let a trained model write.

    The prime and what the model goes on with are written to standard output as they come; of
    several --samples, one whole text after the other, a newline behind each.
    CHECKPOINT is the folder of a run or one weights file; without it, the newest run under
    checkpoints/.

    \b
    charlstm sample --prime "LSTM based" --length 500
    charlstm sample checkpoints/input/epoch-003.weights.h5 --temperature 0.7 --seed 1
    """
    epoch_given = context.get_parameter_source("epoch") is not ParameterSource.DEFAULT
    _sample(checkpoint, record_of(SampleConfig, values), epoch_given=epoch_given)


def _sample(path: str | None, config: SampleConfig, *, epoch_given: bool) -> None:
    from charlstm import checkpoint as checkpoints
    from charlstm.run_folder import find_weights

    try:
        config.prime.encode()
    except UnicodeEncodeError:  # bytes of the command line that were no UTF-8
        raise CharlstmError("--prime: not UTF-8; does the terminal use another encoding?") from None
    weights = find_weights(path, config.epoch, epoch_given=epoch_given)
    checkpoint = checkpoints.read(weights)
    prime = config.prime or opening(checkpoint.vocabulary)
    ids = checkpoint.vocabulary.encode(prime)
    seed = secrets.randbelow(SEED_LIMIT) if config.seed is None else config.seed
    note = f"epoch {checkpoint.epoch} of {weights}"
    click.echo(f"{note}, seed {seed}" if config.seed is None else note, err=True)

    from charlstm import backend
    from charlstm.sampling import Sampler

    device = backend.select_device(config.device)
    sampler = Sampler(checkpoint, cudnn=device.cudnn, samples=config.samples)
    pieces = sampler.sample(ids, config.length, temperature=config.temperature, seed=seed)
    decoded = (map(checkpoint.vocabulary.decode, piece.ids) for piece in interruptible(pieces))
    if config.samples == 1:
        _stream(config.prime, decoded)
    else:
        texts = [[config.prime] for _ in range(config.samples)]
        for piece in decoded:
            for text, part in zip(texts, piece, strict=True):
                text.append(part)
        for text in texts:
            _write("".join(text) + "\n")


def opening(vocabulary: Vocabulary) -> str:
    """Return what a text without a prime goes on from: a newline, or the first character."""
    return "\n" if "\n" in vocabulary.characters else vocabulary.characters[0]


def _stream(prime: str, pieces: Iterable[Iterable[str]]) -> None:
    """Write one text as it comes."""
    try:
        _write(prime)
        for (piece,) in pieces:
            _write(piece)
    finally:
        if sys.stdout.isatty():
            _write("\n")


def _write(text: str) -> None:
    """Write text as UTF-8, whatever the locale, and at once."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()
