"""Encoded texts that runs share."""

import os
from pathlib import Path

from conftest import SMALL, Run, lines_of, outcome

from charlstm.text.cache import shared_corpus
from charlstm.text.collection import Collection, collect

STEPS = [*SMALL, "--max-steps", "6", "--sample-every", "0"]


def train(charlstm: Run, run: str, *options: str) -> None:
    done = charlstm("train", "words.txt", *STEPS, "--run", run, *options)
    assert done.returncode == 0, done.stderr


def test_runs_share_one_encoded_text(charlstm: Run, words: Path) -> None:
    cache = words.parent / "cache"
    for run in ("a", "b"):
        train(charlstm, run, "--cache", "cache")
    train(charlstm, "alone")
    (ids,) = cache.glob("*.ids")
    for run in ("a", "b"):
        assert (words.parent / run / "corpus.ids").resolve() == ids
        assert outcome(words.parent / run) == outcome(words.parent / "alone")
    assert ids.read_bytes() == (words.parent / "alone/corpus.ids").read_bytes()
    train(charlstm, "rare", "--cache", "cache", "--min-count", "500")
    assert len([*cache.glob("*.ids")]) == 2
    assert sorted(path.suffix for path in cache.iterdir()) == [".ids", ".ids", ".json", ".json"]


def test_a_text_that_changed_or_was_damaged_is_encoded_anew(charlstm: Run, words: Path) -> None:
    cache = words.parent / "cache"
    train(charlstm, "a", "--cache", "cache")
    (ids,) = cache.glob("*.ids")
    good = ids.read_bytes()
    ids.write_bytes(good[::-1][:-1] + b"\0")
    train(charlstm, "b", "--cache", "cache")
    assert ids.read_bytes() == good
    ids.with_suffix(".json").write_text("{")
    train(charlstm, "c", "--cache", "cache")
    assert ids.read_bytes() == good
    words.write_text(words.read_text("utf-8").replace("a", "b"), "utf-8")
    train(charlstm, "d", "--cache", "cache")
    assert len([*cache.glob("*.ids")]) == 2


def test_two_texts_of_the_same_size_and_time_are_told_apart(tmp_path: Path) -> None:
    shown = []
    for name, content in (("one", "abab\n"), ("two", "cdcd\n")):
        path = tmp_path / name
        path.write_text(content * 20)
        os.utime(path, ns=(10**18, 10**18))
        text = Collection(collect([str(path)]))
        corpus = shared_corpus(text, tmp_path / "cache", tmp_path / f"{name}.ids", id)
        shown.append(corpus.vocabulary.characters)
    assert shown == ["\nab", "\ncd"]


def test_a_text_and_its_records_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_text("ab\ncd\nef")
    for name, end in (("text", ""), ("records", "\n")):
        text = Collection(collect([str(path)]), end=end)
        shared_corpus(text, tmp_path / "cache", tmp_path / name, id)
    assert [(tmp_path / name).stat().st_size for name in ("text", "records")] == [8, 9]


def test_a_run_continues_without_the_cache(charlstm: Run, words: Path) -> None:
    train(charlstm, "once", "--max-steps", "12")
    train(charlstm, "twice", "--cache", "cache", "--epochs", "1", "--max-steps", "12")
    for path in (words.parent / "cache").iterdir():
        path.unlink()
    options = ["--resume", "--run", "twice", "--epochs", "20"]
    done = charlstm("train", "words.txt", *STEPS, "--max-steps", "12", *options)
    assert done.returncode == 0, done.stderr
    history, _ = outcome(words.parent / "twice")
    assert history[-1]["epoch"] == outcome(words.parent / "once")[0][-1]["epoch"]
    assert not (words.parent / "twice/corpus.ids").is_symlink()


def test_a_cache_that_cannot_be_written_is_an_error(charlstm: Run, words: Path) -> None:
    done = charlstm("train", "words.txt", *STEPS, "--cache", "words.txt/cache")
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1] == (
        "charlstm: words.txt/cache: cannot be written: Not a directory; choose another folder "
        "with --cache"
    )
    assert not (words.parent / "checkpoints").exists()
