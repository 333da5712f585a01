"""charlstm from Python: load a model and sample, score and export it; train one.

These are the verbs of the command line, without a terminal. Errors are CharlstmError.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charlstm import training
from charlstm.config import (
    LENGTH,
    RECORDS,
    SEED_LIMIT,
    TEMPERATURE,
    DrawOptions,
    ScoreOptions,
    read_config,
)
from charlstm.errors import CharlstmError
from charlstm.export import export
from charlstm.export.request import ExportOptions, ExportRequest
from charlstm.options import checked
from charlstm.run.find import load_checkpoint
from charlstm.scoring import score
from charlstm.text.reading import read_ids
from charlstm.text.source import text_in_memory
from charlstm.training.settings import Request

if TYPE_CHECKING:  # for real only when a model computes: TensorFlow
    from collections.abc import Generator, Iterator

    from charlstm.architecture import ModelConfig
    from charlstm.drawing import Filters
    from charlstm.export.request import Exported
    from charlstm.run.weights import Checkpoint
    from charlstm.sampling import Sampler
    from charlstm.scoring import Score
    from charlstm.training.reports import Report

__all__ = ["CharlstmError", "Model", "load", "train"]


def load(path: str | Path | None = None, *, epoch: str | int | None = None) -> Model:
    """Return the model of a run folder, at its best epoch, or of one weights file.

    Without a path it is the newest run under ``checkpoints/``. ``epoch`` is best, last or a number.

    Raises CharlstmError if there is none, or it is not good.
    """
    named = None if path is None else str(path)
    return Model(*load_checkpoint(named, None if epoch is None else str(epoch)))


def train(
    text: str | Path, *, config: str | None = None, **options: Any
) -> Generator[Report, None, Path]:
    """Train a model on a text file; yield a report for each step and each epoch.

    ``options`` are those of ``charlstm train``, spelled as in TOML (``batch_size=64``); ``config``
    is a TOML file or the name of a shipped preset. The training goes on as long as reports are
    asked for; the generator's return value is the folder of the run.

    Raises CharlstmError for options, a text, a folder or a device that it cannot have.
    """
    saved = read_config(config, RECORDS) if config else {}
    request = Request(str(text), checked(options, RECORDS), config, saved)
    with training.start(request) as started:
        yield from started.run()
        return started.run_folder.path


class Model:
    """A trained model; ``path`` is the weights file that it was read from."""

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.path = path
        self._checkpoint = checkpoint
        self._idle: defaultdict[Filters, list[Sampler]] = defaultdict(list)

    @property
    def vocabulary(self) -> str:
        """The characters that it knows, sorted; that at index i has id i."""
        return self._checkpoint.vocabulary.characters

    @property
    def epoch(self) -> int:
        """The epoch of its training that its weights are of."""
        return self._checkpoint.epoch

    @property
    def config(self) -> ModelConfig:
        """Its architecture."""
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
        """Yield, in pieces, what the model goes on with from a prime: ``length`` characters.

        ``length`` can be ``math.inf``. ``filters`` are top_k, top_p and min_p. The same ``seed``
        gives the same text, that of ``charlstm sample``; without one it is another each time.

        Raises CharlstmError for a prime with characters that the model does not know.
        """
        from charlstm.drawing import Filters

        if length < 0:
            raise CharlstmError("length must be at least 0")
        given = {"prime": prime, "temperature": temperature, "seed": seed, **filters}
        options = DrawOptions(**checked(given, [DrawOptions]))
        kept = Filters(options.top_k, options.top_p, options.min_p)
        vocabulary = self._checkpoint.vocabulary
        opening = text_in_memory("the prime", prime or vocabulary.opening())
        ids, _ = read_ids(opening, vocabulary, "error")
        seed = secrets.randbelow(SEED_LIMIT) if seed is None else seed
        # One that writes another text cannot write this one meanwhile; a new one must be compiled.
        sampler = self._idle[kept].pop() if self._idle[kept] else self._sampler(kept)
        try:
            for piece in sampler.sample(ids, length, temperature=temperature, seed=seed):
                yield vocabulary.decode(piece.ids[0])
        finally:
            self._idle[kept].append(sampler)

    def score(self, text: str, *, guesses: int = 0, **options: Any) -> Score:
        """Return how well the model predicts a text: every character but the first.

        ``options`` are batch_size, unknown and per_line, as of ``charlstm score``. With ``guesses``
        the score has details of each character, and so many of the likeliest.

        Raises CharlstmError for a text of fewer than 2 characters, or with unknown ones.
        """
        how = ScoreOptions(**checked(options, [ScoreOptions]))
        return score(self._checkpoint, text_in_memory("the text", text), how, guesses=guesses)

    def export(self, format: str, path: str | Path, **options: Any) -> Exported:  # noqa: A002 - the option's name
        """Write the model for another runtime, checked against it.

        ``format`` and ``options``, precision and overwrite, are those of ``charlstm export``.

        Raises CharlstmError if something is missing, the path is taken, or the two disagree.
        """
        kind = ExportOptions(**checked({"format": format, **options}, [ExportOptions]))
        return export(self._checkpoint, ExportRequest(kind, Path(path)))

    def _sampler(self, filters: Filters) -> Sampler:
        from charlstm.network.backend import select_device
        from charlstm.sampling import Sampler

        device = select_device("auto")
        return Sampler(self._checkpoint, on_gpu=device.on_gpu, filters=filters)
