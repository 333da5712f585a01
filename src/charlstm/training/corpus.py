"""The encoded text of a run: reused from it or from the run that it replaces, or encoded now.

Also its division into windows for training and ids for validation.
"""

from pathlib import Path
from typing import Any

from charlstm.config import TrainConfig
from charlstm.errors import CharlstmError
from charlstm.files import write_errors
from charlstm.run.claim import NewRun
from charlstm.run.folder import CHOOSE_ANOTHER, RunFolder
from charlstm.run.naming import free_folder
from charlstm.text.cache import shared_corpus
from charlstm.text.collection import Input
from charlstm.text.encoding import Corpus, encode, split, training_characters
from charlstm.text.fingerprints import write_index
from charlstm.text.records import Records
from charlstm.text.reuse import has_same_text, is_unchanged, reuse
from charlstm.text.source import Advance, Ids
from charlstm.text.vocabulary import FEWEST, Vocabulary
from charlstm.text.windows import RecordWindows, Windows


def refuse_run_of_another_text(text: Input, run: RunFolder) -> None:
    """Check that a folder holds no run of another text with the same name.

    Raises CharlstmError if it does.
    """
    identity = run.read_corpus() if run.exists() else None
    if identity and not is_unchanged(text, identity):
        raise CharlstmError(
            f"{run.path}: contains a run of another text ({free_folder(text.path)} is free)",
            "choose another folder with {run}, or replace it with {overwrite}",
        )


def corpus_of_new_run(
    text: Input, run: NewRun, cache: str | None, advance: Advance, **vocabulary: Any
) -> Corpus:
    """Return the ids of a text, which are in the run or in the folder ``cache``.

    ``vocabulary`` are the arguments of ``encode`` that decide it. Raises CharlstmError for a text
    that cannot be trained on.
    """
    if cache:
        with write_errors(cache, "choose another folder with {cache}"):
            corpus = shared_corpus(text, Path(cache), run.ids_path, advance, **vocabulary)
        run.write_corpus(corpus.identity())
        return corpus
    with write_errors(run.place, CHOOSE_ANOTHER):
        replaced = run.replaced
        reused = reuse(text, replaced.ids_path, replaced.read_corpus(), **vocabulary)
        if reused:
            run.take_ids(replaced)
        corpus = reused or encode(text, run.ids_path, advance, **vocabulary)
    run.write_corpus(corpus.identity())
    return corpus


def corpus_of_old_run(text: Input, run: RunFolder, advance: Advance) -> Corpus:
    """Return the ids stored in a run; encode its text again if they are lost or damaged.

    Raises CharlstmError if the run was started with another text.
    """
    identity = run.read_corpus()
    with write_errors(run.place, CHOOSE_ANOTHER):
        corpus = reuse(text, run.ids_path, identity, min_count=None)
        if not corpus and not has_same_text(text, identity):
            raise CharlstmError(
                f"{text.name}: the run in {run.path} was started with another text, or its "
                f"corpus.json is damaged ({free_folder(text.path)} is free)",
                "train another run with {run}, or start again with {overwrite}",
            )
        if not corpus:
            characters, min_count = identity["vocabulary"], identity.get("min_count", 1)
            known = Vocabulary(characters, identity.get("unknown") is True)
            corpus = encode(text, run.ids_path, advance, min_count=min_count, known=known)
    run.write_corpus(corpus.identity())
    return corpus


def divided(corpus: Corpus, config: TrainConfig) -> tuple[Windows, Ids | Records]:
    """Return the windows of an epoch, and the ids or records for validation.

    Raises CharlstmError if the text is too short for a single window, or for validation.
    """
    if config.separator:
        return _divided_records(corpus, config)
    needed = config.batch_size * config.sequence_length + 1
    ids, validation = split(corpus.ids, config.validation, needed=needed)
    return Windows(ids, config.batch_size, config.sequence_length), validation


def _divided_records(corpus: Corpus, config: TrainConfig) -> tuple[RecordWindows, Records]:
    if not {*config.separator} <= {*corpus.vocabulary.characters}:
        raise CharlstmError("the separator of records is too rare", "lower it", option="min_count")
    records = corpus.records
    count, size = len(records.starts), (config.batch_size, config.sequence_length)
    first = training_characters(count, config.validation)
    if first < 1 or count < FEWEST:
        raise CharlstmError(
            f"the text has {count:,} records, which are too few", "check {record_separator}"
        )
    training, validation = records.split(first)
    windows = RecordWindows(training.ids, *size, training, config.seed)
    if not windows.steps:
        raise CharlstmError(
            f"{first:,} records for training have {windows.targets:,} characters, but one step "
            f"needs {windows.step_size:,}",
            "use a longer text, or reduce {batch_size}, {sequence_length} or {validation}",
        )
    return windows, validation


def index_records(corpus: Corpus, config: TrainConfig, run: RunFolder) -> None:
    """Keep in the run the fingerprints of all records, if the text consists of records.

    Raises CharlstmError if they cannot be written.
    """
    path = run.index_path("records")
    if config.separator and not path.exists():
        with write_errors(run.place, CHOOSE_ANOTHER):
            write_index(corpus.records, path)
