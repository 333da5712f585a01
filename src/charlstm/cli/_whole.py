"""Sampled texts that are written once they are complete."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from charlstm.cli import _copied
from charlstm.cli._output import write_to
from charlstm.cli._sample_options import SampleConfig
from charlstm.cli._stdio import write_raw
from charlstm.cli._stream import Ending, Piece, in_colour, shaded
from charlstm.text.display import visible

if TYPE_CHECKING:  # these import numpy, so at run time only when a command runs
    from charlstm.text.passages import Copied, PassageIndex
    from charlstm.text.vocabulary import Vocabulary


@dataclass
class _Text:
    """A text that is printed when it is complete."""

    ending: Ending
    text: str = ""
    nats: list[float] = field(default_factory=list)
    copied: Copied | None = None

    def add(self, text: str, nats: Iterable[float]) -> None:
        self.text += text
        self.nats += nats


def write_whole(
    drawn: Iterator[list[Piece]],
    opening: tuple[str, int],
    config: SampleConfig,
    vocabulary: Vocabulary,
    passages: PassageIndex | None,
) -> None:
    """Sample texts to their ends, then write them, to the output file if there is one.

    ``opening`` is the prime and the seed. If there are ``passages`` of the training text, say what
    the texts have in common with it.
    """
    texts = _completed(drawn, config)
    if passages:
        for text in texts:
            text.copied = passages.copied(vocabulary.encode(text.text))
    _write(texts, *opening, config)
    for number, text in enumerate(texts, start=1):
        if text.copied:
            _copied.report(number, len(texts), text.copied)


def _completed(drawn: Iterator[list[Piece]], config: SampleConfig) -> list[_Text]:
    texts = [_Text(Ending(config.stop)) for _ in range(config.samples)]
    for pieces in drawn:
        for text, piece in zip(texts, pieces, strict=True):
            text.add(*text.ending.take(*piece))
        if all(text.ending.complete for text in texts):
            break
    for text in texts:
        text.add(*text.ending.rest())
    return texts


def _write(texts: list[_Text], prime: str, seed: int, config: SampleConfig) -> None:
    if config.json:
        records = (_account(text, prime, seed, stream) for stream, text in enumerate(texts))
        write_to(config.output, "".join(f"{json.dumps(record)}\n" for record in records))
    elif in_colour(wanted=config.color) and not config.output:
        write_raw(_joined(map(_coloured, texts), visible(prime), config))
    else:
        write_to(config.output, _joined((text.text for text in texts), prime, config))


def _coloured(text: _Text) -> str:
    if text.copied:
        return _copied.marked(text.text, text.copied)
    return shaded(text.text, text.nats)


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
        **({"copied": _copied.account(text.text, text.copied)} if text.copied else {}),
    }
