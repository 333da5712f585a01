"""The Python interface: train or load a model, then sample from it, score texts or export it.

Its functions correspond to the commands, and raise CharlstmError.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm import training
from charlstm.config import SEED_LIMIT, TRAIN_OPTIONS
from charlstm.errors import CharlstmError
from charlstm.export import export
from charlstm.export.request import ExportOptions, ExportRequest
from charlstm.inference import LENGTH, TEMPERATURE, DrawOptions, ScoreOptions
from charlstm.options import checked
from charlstm.presets import read_config
from charlstm.run.find import load_checkpoint
from charlstm.scoring import score
from charlstm.text.opening import text_in_memory
from charlstm.text.reading import read_ids
from charlstm.training.settings import Request

if TYPE_CHECKING:  # imports TensorFlow, so at run time only once a model computes
    from collections.abc import Generator, Iterator, Sequence

    from charlstm.architecture import ModelConfig
    from charlstm.drawing import Filters
    from charlstm.export.request import Exported
    from charlstm.run.weights import Checkpoint
    from charlstm.sampling import Sampler
    from charlstm.scoring import Score
    from charlstm.training.reports import Report

__all__ = ["CharlstmError", "Model", "load", "train"]


def load(path: str | Path | None = None, *, epoch: str | int | None = None) -> Model:
    """Load a model from a run folder or a weights file.

    The default is the newest run under ``checkpoints/``. ``epoch`` selects an epoch of the run:
    best (the default), last or a number.

    Raises CharlstmError if there is no model, or its file is damaged.
    """
    named = None if path is None else str(path)
    return Model(*load_checkpoint(named, None if epoch is None else str(epoch)))


def train(
    text: str | Path | Sequence[str | Path], *, config: str | None = None, **options: Any
) -> Generator[Report, None, Path]:
    """Train a model on text files; yield a report for each step, epoch and note, and at the end.

    ``options`` are those of ``charlstm train``, spelled as in TOML (``batch_size=64``). ``config``
    is a TOML file or the name of a shipped preset. Training advances only while you iterate; the
    generator returns the run folder.

    Raises CharlstmError for invalid options, an unusable text or folder, or an unavailable device.
    """
    saved = read_config(config, TRAIN_OPTIONS) if config else {}
    texts = [text] if isinstance(text, str | Path) else text
    if not texts:
        raise CharlstmError("there is no text")
    request = Request(tuple(map(str, texts)), checked(options, TRAIN_OPTIONS), config, saved)
    with training.start(request) as started:
        yield from started.run()
        return request.folder


class Model:
    """A trained model, loaded from the weights file ``path``."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path = path
        self._checkpoint = checkpoint
        self._idle: defaultdict[Filters, list[Sampler]] = defaultdict(list)

    @property
    def vocabulary(self) -> str:
        """The characters of the model, sorted; the id of a character is its index."""
        return self._checkpoint.vocabulary.characters

    @property
    def epoch(self) -> int:
        """The training epoch of the weights."""
        return self._checkpoint.epoch

    @property
    def config(self) -> ModelConfig:
        """The architecture of the model."""
        return self._checkpoint.model

    def sample(
        self,
        prime: str = "",
        *,
        length: float = LENGTH,
        temperature: float = TEMPERATURE,
        seed: int | None = None,
        **filters: Any,
    ) -> Iterator[str]:
        """Generate ``length`` characters that continue a prime, and yield them in chunks.

        ``length`` can be ``math.inf``. ``filters`` are top_k, top_p, min_p and allow_unknown. The
        same ``seed`` gives the same text, here and in ``charlstm sample``; by default, the seed is
        random.

        Raises CharlstmError for invalid options, or a prime with characters outside the vocabulary.
        """
        from charlstm.drawing import filters_of

        if length < 0:
            raise CharlstmError("length must be at least 0")
        given = {"prime": prime, "temperature": temperature, "seed": seed, **filters}
        options = DrawOptions(**checked(given, [DrawOptions]))
        kept = filters_of(options)
        vocabulary = self._checkpoint.vocabulary
        opening = text_in_memory("the prime", prime or self._checkpoint.opening)
        try:
            ids, _ = read_ids(opening, vocabulary, "error")
        except CharlstmError as error:  # the command line can skip them
            raise CharlstmError(error.problem, "remove them") from None
        seed = secrets.randbelow(SEED_LIMIT) if seed is None else seed
        # A sampler can generate only one text at a time. Idle ones are reused, since a new one has
        # to be compiled.
        sampler = self._idle[kept].pop() if self._idle[kept] else self._sampler(kept)
        try:
            for piece in sampler.sample(ids, length, temperature=temperature, seed=seed):
                yield vocabulary.decode(piece.ids[0])
        finally:
            self._idle[kept].append(sampler)

    def score(self, text: str, *, guesses: int = 0, **options: Any) -> Score:
        """Measure how well the model predicts each character of a text but the first.

        ``options`` are batch_size, unknown, per_line, reset, per_record, adapt (and adapt_rate,
        adapt_decay, adapt_segment) and device of ``charlstm score``. If ``guesses`` is not 0, the
        score has details of each character, with that number of most likely characters.

        Raises CharlstmError for invalid options, a text of fewer than 2 characters, or one with
        characters outside the vocabulary unless ``unknown`` is skip.
        """
        how = ScoreOptions(**checked(options, [ScoreOptions]))
        return score(self._checkpoint, text_in_memory("the text", text), how, guesses=guesses)

    def export(self, format: str, path: str | Path, **options: Any) -> Exported:  # noqa: A002 - the option's name
        """Export the model to another runtime; if that is installed, compare the two.

        ``format`` and ``options`` (precision, overwrite) are those of ``charlstm export``.

        Raises CharlstmError if a package is missing, the path exists, or the export disagrees.
        """
        kind = ExportOptions(**checked({"format": format, **options}, [ExportOptions]))
        return export(self._checkpoint, ExportRequest(kind, Path(path)))

    def _sampler(self, filters: Filters) -> Sampler:
        from charlstm.network.device import select_device
        from charlstm.sampling import Sampler

        device = select_device("auto")
        return Sampler(self._checkpoint, on_gpu=device.on_gpu, filters=filters)
