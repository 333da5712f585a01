"""Records, from training to sampling: each begins from the state after a separator."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, lines_of, outcome, run_here
from oracle import Oracle

import charlstm
from charlstm.run.folder import RunFolder
from charlstm.text.records import find_records
from charlstm.text.windows import RecordWindows

TRAIN = "--units 24 --layers 2 --batch-size 4 --sequence-length 16 --learning-rate 0.01".split()
NAMES = sorted({f"{a}{b}{c}" for a in "kmnrst" for b in "aeio" for c in ("ra", "lin", "s", "to")})
TIMES = 12
SEPARATORS = {"line end": "\n", "long": "<|>"}


def names_text(separator: str) -> str:
    return "".join(name + separator for name in NAMES) * TIMES


@pytest.fixture(scope="module", params=SEPARATORS)
def names(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run on names."""
    folder, separator = tmp_path_factory.mktemp("names"), SEPARATORS[request.param]
    (folder / "names.txt").write_text(names_text(separator))
    options = ["--records"] if separator == "\n" else ["--record-separator", separator]
    command = ["train", "names.txt", *options, *TRAIN, "--epochs", "8", "--sample-every", "0"]
    done = run_here(folder, *command)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"records: 1,036 for training, 116 for validation; of 4\.0 characters on average, at most 5",  # noqa: E501
        done.stderr.decode(),
    )
    return folder


def separator_of(folder: Path) -> str:
    return charlstm.load(folder / "checkpoints/names")._checkpoint.separator  # noqa: SLF001


def record_by_the_oracle(folder: Path, prime: str, stream: int, seed: int) -> str:
    """Return the record that a text draws first, with its separator."""
    separator = separator_of(folder)
    oracle = Oracle(RunFolder(folder / "checkpoints/names").choose("best"))
    drawn = oracle.write(separator[-1] + prime, 60, 1.0, seed, stream)
    assert separator in prime + drawn
    return (prime + drawn).partition(separator)[0]


def test_a_record_has_the_score_of_the_oracle_wherever_it_stands(names: Path) -> None:
    separator = separator_of(names)
    records = ["kara", "tos", "nilin", "kara", "k" * 90]
    path = RunFolder(names / "checkpoints/names").choose("best")
    expected = {
        record: Oracle(path).nats(separator[-1] + record + separator).sum()
        / len(record + separator)
        for record in records
    }
    for order in (records, records[::-1]):
        # The last record needs no separator, and empty records do not count.
        text = separator + separator.join(order)
        for options in ([], ["--batch-size", "2"]):
            command = ["score", "checkpoints/names", "-", "--per-record", "--json", *options]
            done = run_here(names, *command, given=text.encode())
            assert done.returncode == 0, done.stderr
            *each, whole = map(json.loads, done.stdout.splitlines())
            assert [line["text"] for line in each] == order
            assert [line["record"] for line in each] == [1, 2, 3, 4, 5]
            for line in each:
                assert line["nats_per_char"] == pytest.approx(expected[line["text"]], abs=1e-5)
            assert whole["characters"] == sum(len(record + separator) for record in records)


def test_validation_is_the_score_of_the_last_tenth_of_the_records(names: Path) -> None:
    separator = separator_of(names)
    run = RunFolder(names / "checkpoints/names")
    epoch = next(e for e in run.finished_epochs() if e.epoch == run.best_epoch())
    held_out = separator.join((NAMES * TIMES)[1036:]).encode()
    done = run_here(names, "score", "checkpoints/names", "-", "--json", given=held_out)
    assert json.loads(done.stdout)["nats_per_char"] == pytest.approx(epoch.valid_loss, abs=1e-5)


@pytest.mark.parametrize("prime", ["", "ka"])
def test_each_record_is_drawn_as_by_the_oracle(names: Path, prime: str) -> None:
    separator = separator_of(names)
    command = ["sample", "checkpoints/names", "--records", "5", "--seed", "7", "--prime", prime]
    done = run_here(names, *command)
    assert done.returncode == 0, done.stderr
    expected = [record_by_the_oracle(names, prime, stream, 7) for stream in range(5)]
    assert done.stdout.decode() == "".join(record + separator for record in expected)
    assert all(record.startswith(prime) for record in expected)


def test_a_text_of_many_records_restarts_after_each(names: Path) -> None:
    """Also while it reads a prime."""
    separator = separator_of(names)
    done = run_here(names, *"sample checkpoints/names --length 300 --seed 3".split())
    text = done.stdout.decode()
    uniform = np.random.Generator(np.random.Philox(key=np.array([3, 0], np.uint64)))
    path, expected = RunFolder(names / "checkpoints/names").choose("best"), ""
    while len(expected) < 300:
        oracle, record = Oracle(path), ""
        logits = oracle.logits(separator[-1])[-1]
        while len(expected) < 300 and not record.endswith(separator):
            weights = np.exp(logits - logits.max())
            chosen = int(np.argmax(np.cumsum(weights / weights.sum()) > uniform.random()))
            record += oracle.characters[chosen]
            expected += oracle.characters[chosen]
            logits = oracle.step(chosen)
    assert text == expected
    begun = run_here(
        names, "sample", "checkpoints/names", "--seed", "3", "--length", "30", "--prime",
        f"tokokoko{separator}", "--hide-prime",
    )  # fmt: skip
    assert begun.stdout.decode() == text[:30]


LINES_ONLY = pytest.mark.parametrize("names", ["line end"], indirect=True)


def sampled(folder: Path, *options: str) -> tuple[list[dict[str, Any]], dict[str, int], list[str]]:
    """Sample records; return them, the account, and the lines of stderr."""
    command = ["sample", "checkpoints/names", "--seed", "5", "--json", *options]
    done = run_here(folder, *command)
    assert done.returncode == 0, done.stderr
    *records, account = map(json.loads, done.stdout.splitlines())
    return records, account, lines_of(done.stderr)


@LINES_ONLY
def test_the_report_counts_what_was_drawn(names: Path) -> None:
    records, account, lines = sampled(names, "--records", "700", "--max-length", "4")
    texts = [record["text"] for record in records]
    assert len(texts) == account["given"] == 700
    assert account["drawn"] == 700 + account["too_long"] > 700
    assert account["unique"] == len(set(texts))
    assert {record["text"] for record in records if not record["novel"]} <= set(NAMES)
    assert account["novel"] == sum(record["novel"] for record in records)
    assert account["novel"] == sum(text not in NAMES for text in texts)
    assert max(map(len, texts)) == 4
    assert lines[-1] == (
        f"drawn:   {account['drawn']:,} records, of them {account['unique']:,} unique, "
        f"{account['novel']:,} not in the training text, {account['too_long']:,} longer than "
        "4 characters"
    )
    first, _, _ = sampled(names, "--records", "300", "--max-length", "4")
    assert first == records[:300]


@LINES_ONLY
def test_short_records_do_not_come_first(names: Path) -> None:
    """Records are in the order in which they begin, not in that in which they end."""
    many, _, _ = sampled(names, "--records", "600")
    whole = {record["text"]: None for record in many}
    few = [record["text"] for record in many[:256]]
    assert few == [record_by_the_oracle(names, "", stream, 5) for stream in range(256)]
    assert len({len(text) for text in whole}) == 3


@LINES_ONLY
def test_unique_and_novel_records_are_the_first_of_their_kind(names: Path) -> None:
    every = [record["text"] for record in sampled(names, "--records", "2000")[0]]
    unique = [*dict.fromkeys(every)]
    novel = [text for text in every if text not in NAMES]
    options = {"--unique": unique, "--novel": novel}
    options["--unique --novel"] = [*dict.fromkeys(novel)]
    for option, expected in options.items():
        count = min(256, len(expected))
        records, account, _ = sampled(names, "--records", str(count), *option.split())
        found = [record["text"] for record in records]
        assert len(found) == account["given"] == count
        assert not ("--unique" in option and len(set(found)) < count)
        assert not ("--novel" in option and set(found) & set(NAMES))
        assert count < 256 or found == expected[:count]


@LINES_ONLY
def test_it_gives_up_when_there_are_no_more_records(
    names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlstm.records.HOPELESS", 40)
    records, account, lines = sampled(names, *"--records 9 --unique --temperature 0".split())
    assert len(records) == account["given"] == 1
    assert lines[-1] == "note:    only 1 of 9 records: no more are found"


def test_the_training_loss_is_that_of_the_oracle_with_a_state_that_is_reset(
    tmp_path: Path,
) -> None:
    (tmp_path / "names.txt").write_text(names_text("\n"))
    options = "--learning-rate 1e-12 --max-steps 3 --log-every 1 --dropout 0 --no-calibrate"
    command = ["train", "names.txt", "--records", *TRAIN, *options.split()]
    command += ["--precision", "float32", "--sample-every", "0"]
    assert run_here(tmp_path, *command).returncode == 0
    run = RunFolder(tmp_path / "checkpoints/names")
    losses = [line["loss"] for line in run.history()[0] if line["kind"] == "step"]
    lanes = [Oracle(run.choose("last")) for _ in range(4)]
    records = find_records(np.memmap(run.ids_path, np.uint8, "r"), np.zeros(1, np.uint8))
    training, _ = records.split(1036)
    windows = RecordWindows(training.ids, 4, 16, training, seed=1)
    for step, loss in enumerate(losses):
        nats = 0.0
        for oracle, lane in zip(lanes, windows.window(step)[..., 0], strict=True):
            for character, target in pairwise(lane):
                if character == 0:  # the separator
                    oracle.state = [[np.zeros(24), np.zeros(24)] for _ in oracle.layers]
                logits = oracle.step(character)
                nats += np.log(np.exp(logits).sum()) - logits[target]
        assert loss == pytest.approx(nats / 64, abs=1e-5)
    assert len(losses) == 3


def test_a_training_stopped_within_a_shuffled_epoch_is_resumed_exactly(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text(names_text("\n"))
    command = ["train", "names.txt", "--records", *TRAIN, "--dropout", "0.3", "--sample-every", "0"]
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert run_here(tmp_path, *command, "--run", "once", "--epochs", "3").returncode == 0
    request: dict[str, Any] = {
        "records": True,
        "units": 24,
        "layers": 2,
        "batch_size": 4,
        "sequence_length": 16,
    }
    request |= {"learning_rate": 0.01, "dropout": 0.3, "epochs": 3, "resume": True}
    for steps in (50, 100, 1000):
        reports = charlstm.train(tmp_path / "names.txt", run=str(twice), **request)
        for number, _ in enumerate(reports):
            if number == steps:
                reports.close()
    assert outcome(once) == outcome(twice)


def test_files_of_records_are_joined_by_the_separator(tmp_path: Path) -> None:
    """A record that ends a file without a separator is not glued to the first of the next."""
    (tmp_path / "one").write_text("\n".join(NAMES[:50]))
    (tmp_path / "two").write_text("\n".join(NAMES[50:]))
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    command = ["--records", *TRAIN, "--epochs", "1", "--sample-every", "0"]
    assert run_here(tmp_path, "train", "one", "two", *command, "--run", "a").returncode == 0
    assert run_here(tmp_path, "train", "names.txt", *command, "--run", "b").returncode == 0
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


REFUSED = [
    (["train", "words.txt", "--record-separator", "Q"], "the text has 1 records"),
    (["train", "words.txt", "--records", "--batch-size", "4000"], "one step needs 256,000"),
    (["score", "plain", "words.txt", "--per-record"], "the model was not trained on records"),
    (["sample", "plain", "--records", "3"], "the model was not trained on records"),
    (["sample", "plain", "--novel"], "--novel is about --records: give that, too"),
    (["sample", "plain", "--records", "3", "--stop", "x"], "leave out --stop"),
    (["sample", "plain", "--records", "3", "--length", "9"], "--records does not use --length"),
]


@pytest.mark.parametrize(("command", "problem"), REFUSED)
def test_what_does_not_fit_is_refused(
    charlstm: Run, words: Path, trained: Path, command: list[str], problem: str
) -> None:
    del words
    named = [str(trained) if word == "plain" else word for word in command]
    done = charlstm(*named)
    assert done.returncode in (1, 2)
    assert done.stdout == b""
    assert problem in lines_of(done.stderr)[-1]


@LINES_ONLY
def test_what_a_model_of_records_cannot_do_is_refused(names: Path, tmp_path: Path) -> None:
    best = RunFolder(names / "checkpoints/names").choose("best")
    (tmp_path / "moved.weights.h5").write_bytes(best.read_bytes())
    for command, problem in (
        (["sample", "moved.weights.h5", "--records", "3", "--novel"], "records.index"),
        (["sample", "moved.weights.h5", "--records", "3", "--max-length", "1", "--prime", "ka"],
         "--max-length: the prime has 2 characters"),
        (["score", "moved.weights.h5", "moved.weights.h5", "--reset"], "use --per-record instead"),
    ):  # fmt: skip
        done = run_here(tmp_path, *command)
        assert done.returncode == 1
        assert problem in lines_of(done.stderr)[-1]
    done = run_here(tmp_path, "sample", "moved.weights.h5", "--records", "3", "--seed", "1")
    assert done.returncode == 0
    assert "not in the training text" not in done.stderr.decode()


def test_the_separator_must_not_be_rare(charlstm: Run, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab" * 500 + "\n" + "ab" * 500)
    done = charlstm("train", "t.txt", "--records", "--min-count", "9", *TRAIN)
    assert done.returncode == 1
    assert "--min-count: the separator of records is too rare" in lines_of(done.stderr)[-1]
    assert not (tmp_path / "checkpoints").exists()
