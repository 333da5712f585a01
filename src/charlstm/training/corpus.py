"""The encoded text of a run: reused from it or from the run that it replaces, or encoded now.

Also its division into windows for training and ids for validation.
"""

from collections.abc import Callable
from pathlib import Path

from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.files import write_errors
from charlstm.run.claim import NewRun
from charlstm.run.folder import CHOOSE_ANOTHER, RunFolder
from charlstm.text.encoding import Corpus, encode, has_same_text, reuse, split
from charlstm.text.source import Ids, Text
from charlstm.text.windows import Windows
from charlstm.training.settings import free_folder

Advance = Callable[[int], object]  # called with the number of bytes just read


def corpus_of_new_run(text: Text, run: NewRun, extra: str, advance: Advance) -> Corpus:
    """Return the ids of a text; its vocabulary also gets the characters of ``extra``.

    Raises CharlstmError for a text that cannot be trained on.
    """
    with write_errors(run.place, CHOOSE_ANOTHER):
        replaced = run.replaced
        corpus = reuse(text, replaced.ids_path, replaced.read_corpus(), extra=extra)
        if corpus:
            run.take_ids(replaced)
        else:
            corpus = encode(text, run.ids_path, advance, extra=extra)
    run.write_corpus(corpus.identity())
    return corpus


def corpus_of_old_run(text: Text, run: RunFolder, advance: Advance) -> Corpus:
    """Return the ids stored in a run; encode its text again if they are lost or damaged.

    Raises CharlstmError if the run was started with another text.
    """
    identity = run.read_corpus()
    with write_errors(run.place, CHOOSE_ANOTHER):
        corpus = reuse(text, run.ids_path, identity, extra=None)
        if not corpus and not has_same_text(text, identity):
            raise CharlstmError(
                f"{text.name}: the run in {run.path} was started with another text, or its "
                f"corpus.json is damaged ({free_folder(Path(text.name))} is free)",
                "train another run with {run}, or start again with {overwrite}",
            )
        if not corpus:
            corpus = encode(text, run.ids_path, advance, extra=identity["vocabulary"])
    run.write_corpus(corpus.identity())
    return corpus


def divided(corpus: Corpus, config: TrainConfig) -> tuple[Windows, Ids]:
    """Return the windows of an epoch, and the ids for validation.

    Raises CharlstmError if the text is too short for a single window, or for validation.
    """
    needed = config.batch_size * config.sequence_length + 1
    ids, validation = split(corpus.ids, config.validation, needed=needed)
    return Windows(ids, config.batch_size, config.sequence_length), validation
