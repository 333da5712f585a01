"""Texts of every kind on the command line: several files, pipes, encodings, rare characters."""

import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Run, lines_of, outcome

from charlstm.run.weights_reader import read_checkpoint
from charlstm.text import opening

STEPS = [*SMALL, "--max-steps", "4", "--sample-every", "0", "--validation", "0"]


def test_several_texts_a_folder_and_a_pipe_train_as_one_file_does(
    charlstm: Run, tmp_path: Path
) -> None:
    parts = ["the quick é\n" * 20, "brown fox\n" * 20, "over the lazy dog\n" * 20]
    (tmp_path / "whole.txt").write_text("".join(parts), "utf-8")
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, part in enumerate(parts):
        (folder / f"{number}.txt").write_text(part, "utf-8")
    (folder / "no text").write_bytes(b"\xff")
    assert charlstm("train", "whole.txt", *STEPS).returncode == 0
    files = [f"parts/{number}.txt" for number in range(3)]
    assert charlstm("train", *files, *STEPS, "--run", "files").returncode == 0
    done = charlstm("train", "parts", "--include", "*.txt", *STEPS)
    assert done.returncode == 0, done.stderr
    given = gzip.compress((tmp_path / "whole.txt").read_bytes())
    done = charlstm("train", "-", *STEPS, given=given)
    assert done.returncode == 0, done.stderr
    runs = [tmp_path / "checkpoints" / name for name in ("whole", "parts", "stdin")]
    weights = [read_checkpoint(run / "epoch-001.weights.h5").weights for run in runs]
    weights.append(read_checkpoint(tmp_path / "files/epoch-001.weights.h5").weights)
    for other in weights[1:]:
        assert all(map(np.array_equal, weights[0], other))
    assert not list((tmp_path / "checkpoints").rglob("*.tmp"))


def test_a_training_on_a_pipe_and_a_folder_is_resumed(charlstm: Run, tmp_path: Path) -> None:
    """If the pipe gives the same text again, and only then."""
    (tmp_path / "texts").mkdir()
    for name in ("a", "b"):
        (tmp_path / "texts" / name).write_text(f"{name} quick brown fox\n" * 20)
    command = ["train", "-", "texts", "--join", "é", *SMALL, "--sample-every", "0", "--resume"]
    for epochs, run in (("2", "once"), ("1", "twice"), ("2", "twice")):
        done = charlstm(*command, "--epochs", epochs, "--run", run, given=b"12345\n" * 30)
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "once") == outcome(tmp_path / "twice")
    done = charlstm(*command, "--epochs", "3", "--run", "twice", given=b"12346\n" * 30)
    assert done.returncode == 1
    assert "was started with another text" in lines_of(done.stderr)[-1]


def test_a_text_of_another_encoding_is_trained_on_scored_and_a_prime(
    charlstm: Run, tmp_path: Path
) -> None:
    text = "学而时习之不亦说乎有朋自远方来\n" * 20
    (tmp_path / "a.txt").write_text(text, "gb18030")
    refused = charlstm("train", "a.txt", *STEPS)
    assert refused.returncode == 1
    assert lines_of(refused.stderr)[-1].endswith("if it is GB18030, use --encoding gb18030")
    assert charlstm("train", "a.txt", *STEPS, "--encoding", "GB18030").returncode == 0
    for command in (
        ["score", "a.txt"],
        ["sample", "--prime-file", "a.txt", "--length", "1"],
        ["export", "--format", "numpy", "-o", "a.npz", "--check", "a.txt"],
    ):
        done = charlstm(*command)
        assert done.returncode == 1, command
        assert "use --encoding gb18030" in lines_of(done.stderr)[-1]
        done = charlstm(*command, "--encoding", "gb18030")
        assert done.returncode == 0, done.stderr
    resumed = charlstm("train", "a.txt", *STEPS, "--resume")  # its config.toml has the encoding
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize(
    ("command", "name"),
    [("train a", "é"), ("score RUN a", "rot13"), ("sample RUN --prime-file a", "x")],
)
def test_an_unknown_encoding_is_a_one_line_error(
    command: str, name: str, charlstm: Run, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("the cell")
    words = [word.replace("RUN", str(trained)) for word in command.split()]
    done = charlstm(*words, "--encoding", name)
    assert done.returncode == 1
    assert lines_of(done.stderr)[-1].startswith(
        f"charlstm: --encoding: {name!r} is not an encoding"
    )


def test_a_pipe_that_nothing_writes_to_is_an_error_in_every_command(
    charlstm: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PIPE_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    for command in (
        ["train", "pipe"],
        ["score", trained, "pipe"],
        ["sample", trained, "--prime-file", "pipe"],
        ["export", trained, "--format", "numpy", "-o", "a.npz", "--check", "pipe"],
    ):
        done = charlstm(*command)
        assert done.returncode == 1
        assert lines_of(done.stderr)[-1] == "charlstm: pipe: a pipe that nothing writes to"
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a text of four frequent characters and many rare ones."""
    source = random.Random(5)
    characters = [chr(0x4E00 + i) for i in range(60)]
    words = source.choices(["ab", "cd", *characters], [900, 900, *[1] * 60], k=2000)
    path = tmp_path_factory.mktemp("rare") / "rare.txt"
    path.write_text("".join(words), "utf-8")
    return path


def test_rare_characters_share_an_id_which_is_never_drawn(
    rare: Path, charlstm: Run, tmp_path: Path
) -> None:
    done = charlstm("train", rare, *STEPS, "--min-count", "50", "--run", "run")
    assert done.returncode == 0, done.stderr
    checkpoint = read_checkpoint(tmp_path / "run/epoch-001.weights.h5")
    assert checkpoint.vocabulary.characters == "abcd\ufffd"
    assert checkpoint.vocabulary.has_unknown
    counts = json.loads((tmp_path / "run/corpus.json").read_text())["counts"]
    text = rare.read_text("utf-8")
    assert counts == [*(text.count(c) for c in "abcd"), sum(c not in "abcd" for c in text)]
    options = ["--length", "400", "--temperature", "3", "--seed", "1", "--prime", "ab学x"]
    plain = charlstm("sample", "run", *options)
    assert "2 characters read as U+FFFD" in plain.stderr.decode()
    read, drawn = plain.stdout.decode()[:4], plain.stdout.decode()[4:]
    assert read == "ab\ufffd\ufffd"
    assert set(drawn.rstrip("\n")) == set("abcd")
    wild = charlstm("sample", "run", *options, "--allow-unknown").stdout.decode()
    assert "\ufffd" in wild[4:]
    scored = json.loads(charlstm("score", "run", rare, "--json").stdout)
    assert scored["unknown"] == counts[-1]
    assert scored["characters"] == len(text) - 1
    assert scored["skipped"] == 0


def test_min_count_is_part_of_an_exact_resume(rare: Path, charlstm: Run, tmp_path: Path) -> None:
    options = [*SMALL, "--sample-every", "0", "--min-count", "3", "--epochs"]
    for epochs, run in (("2", "once"), ("1", "twice"), ("2", "twice")):
        done = charlstm("train", rare, *options, epochs, "--run", run, "--resume")
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "once") == outcome(tmp_path / "twice")
    (tmp_path / "twice/corpus.ids").unlink()  # encoded again, in the same way
    done = charlstm("train", rare, *options, "2", "--run", "twice", "--resume")
    assert done.returncode == 0, done.stderr
    ids = [(tmp_path / run / "corpus.ids").read_bytes() for run in ("once", "twice")]
    assert ids[0] == ids[1]
    done = charlstm("train", rare, *options, "2", "--run", "twice", "--resume", "--min-count", "4")
    assert lines_of(done.stderr)[-1].startswith("charlstm: --min-count: the run in twice has 3")


def test_a_model_with_an_id_for_rare_characters_is_fine_tuned(
    rare: Path, charlstm: Run, tmp_path: Path
) -> None:
    assert charlstm("train", rare, *STEPS, "--min-count", "50", "--run", "run").returncode == 0
    (tmp_path / "more.txt").write_text("abcdx" * 100)
    done = charlstm("train", "more.txt", *STEPS, "--init-from", "run")
    assert done.returncode == 0, done.stderr
    vocabulary = read_checkpoint(tmp_path / "checkpoints/more/epoch-001.weights.h5").vocabulary
    assert (vocabulary.characters, vocabulary.has_unknown) == ("abcdx\ufffd", True)


def test_a_min_count_that_leaves_nothing_is_an_error(
    rare: Path, charlstm: Run, tmp_path: Path
) -> None:
    done = charlstm("train", rare, *STEPS, "--min-count", "5000")
    assert lines_of(done.stderr)[-1].startswith("charlstm: --min-count: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_more_than_65536_distinct_characters_work_from_training_to_export(
    charlstm: Run, tmp_path: Path
) -> None:
    characters = [chr(point) for point in range(0x3400, 0x14000) if not 0xD800 <= point < 0xE000]
    text = "".join(characters) + "".join(random.Random(1).choices(characters, k=5000))
    (tmp_path / "a.txt").write_text(text, "utf-8")
    options = "--units 4 --layers 1 --batch-size 3 --sequence-length 10 --max-steps 4".split()
    assert charlstm("train", "a.txt", *options, "--sample-every", "0").returncode == 0
    assert charlstm("train", "a.txt", *options, "--resume").returncode == 0
    drawn = charlstm("sample", "--length", "50").stdout.decode().rstrip("\n")
    assert set(drawn) <= set(characters)
    scored = json.loads(charlstm("score", "a.txt", "--json").stdout)
    assert scored["bits_per_char"] == pytest.approx(np.log2(len(characters)), abs=0.01)
    for kind in ("numpy", "onnx", "litert", "saved-model", "keras"):
        done = charlstm("export", "--format", kind, "-o", "a.keras" if kind == "keras" else kind)
        assert done.returncode == 0, done.stderr
