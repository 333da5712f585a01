"""What ``sample --copied`` says about texts, compared with the training text itself."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import SMALL, Run, lines_of, on_a_terminal, run_here

TEXT = "".join(
    f"{'the quick brown fox' if n % 3 else 'a lazy dog'} jumps over {'the' if n % 2 else 'a'} log\n"
    for n in range(400)
)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that has learned its text by heart."""
    folder = tmp_path_factory.mktemp("learned")
    (folder / "words.txt").write_text(TEXT)
    done = run_here(folder, "train", "words.txt", *SMALL, "--epochs", "3", "--sample-every", "0")
    assert done.returncode == 0, done.stderr
    return folder / "checkpoints/words"


@pytest.fixture
def run(learned: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, since an index is written into it."""
    return Path(shutil.copytree(learned, tmp_path / "run"))


def test_the_passages_are_in_the_training_text(charlstm: Run, run: Path) -> None:
    command = ["sample", run, "--copied", "--seed", "1", "--temperature", "0.8"]
    done = charlstm(*command, "--json", "--samples", "3", "--length", "400")
    assert done.returncode == 0, done.stderr
    *_, indexing, one, two, three = lines_of(done.stderr)
    assert indexing == f"indexing {len(TEXT):,} characters"
    shares = []
    for line, said in zip(
        map(json.loads, done.stdout.splitlines()), (one, two, three), strict=True
    ):
        sampled, copied = line["text"], line["copied"]
        starts = [i for i in range(len(sampled) - 19) if sampled[i : i + 20] in TEXT]
        share = len({i + j for i in starts for j in range(20)}) / len(sampled)
        assert copied["share"] == pytest.approx(share)
        shares.append(share)
        longest = copied["longest"]
        at = longest["position"] - 1
        assert TEXT[at : at + longest["characters"]] == longest["text"]
        assert longest["text"] in sampled
        n = longest["characters"] + 1
        assert not any(sampled[i : i + n] in TEXT for i in range(len(sampled) - n + 1))
        assert f"{share:.1%} in passages of 20 or more characters; the longest, of {n - 1}" in said
    assert max(shares) > 0.3
    again = charlstm(*command, "--json", "--samples", "3", "--length", "400")
    assert again.stdout == done.stdout
    assert b"indexing" not in again.stderr


def test_a_text_without_such_passages_is_said_to_have_none(charlstm: Run, run: Path) -> None:
    done = charlstm("sample", run, *"--copied --seed 1 --temperature 9 --length 50".split())
    assert lines_of(done.stderr)[-1] == "copied:  no passage of 20 or more characters"
    assert len(done.stdout.decode()) == 50


def test_an_index_of_another_size_is_made_anew(charlstm: Run, run: Path) -> None:
    command = ["sample", run, *"--copied --seed 1 --temperature 0.8 --json".split()]
    first = charlstm(*command)
    (run / "passages.index").write_bytes(b"1234")
    assert charlstm(*command).stdout == first.stdout


def test_passages_are_marked_on_a_terminal(run: Path, tmp_path: Path) -> None:
    options = "--copied --color --seed 1 --temperature 0.8 --length 300".split()
    _, shown = on_a_terminal(tmp_path, "sample", run, *options)
    assert "\x1b[7m" in shown
    assert "\x1b[48" not in shown


def test_without_the_text_nothing_can_be_said(charlstm: Run, run: Path, tmp_path: Path) -> None:
    weights = next(run.glob("epoch-*.h5"))
    (tmp_path / "moved").mkdir()
    shutil.copy(weights, tmp_path / "moved")
    done = charlstm("sample", tmp_path / "moved" / weights.name, "--copied")
    assert done.returncode == 1
    assert done.stdout == b""
    assert "corpus.ids: is not the text that" in lines_of(done.stderr)[-1]
