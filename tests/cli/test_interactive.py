import io
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, lines_of, on_a_terminal
from numpy.typing import NDArray
from oracle import Oracle

from charlstm.cli._sample_options import SampleConfig
from charlstm.cli.interactive import Conversation, converse
from charlstm.run.weights_reader import read_checkpoint
from charlstm.sampling import Sampler, Tick


@pytest.fixture
def weights(trained: Path) -> Path:
    return trained / "epoch-002.weights.h5"


def test_each_answer_continues_the_whole_conversation(charlstm: Run, weights: Path) -> None:
    """In a pipe, without a prompt: the answers equal the oracle's, from one random stream."""
    lines = b"the \\\nzyx\ncell\r\n:length 5\n:temperature 0\n:next\n\n:reset\nthe \\\n"
    done = charlstm(
        *("sample", weights, "--prime", "gate ", "--interactive", "--stop", "t"),
        *"--length 40 --seed 3".split(),
        given=lines,
    )
    assert done.returncode == 0, done.stderr.decode()

    def answer(before: str, length: int, temperature: float, drawn: int) -> str:
        """Return the oracle's answer after ``drawn`` random numbers."""
        text = Oracle(weights).write(before, length, temperature, seed=3, skip=drawn)
        return text.partition("t")[0]

    first = answer("gate the ", 40, 1, 0)
    second = answer(f"gate the {first}cell\n", 40, 1, len(first))
    third = answer(f"gate the {first}cell\n{second}\n", 5, 0, 0)
    again = answer("gate the ", 5, 0, 0)
    assert done.stdout.decode() == "".join(f"{text}\n" for text in (first, second, third, again))
    assert lines_of(done.stderr)[1].startswith(
        "the line: has characters outside the vocabulary: 'z'"
    )


def test_a_line_is_read_unchanged(
    indifferent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its carriage return and byte order mark; incomplete commands are explained."""
    heard: list[str] = []
    read = read_checkpoint(indifferent)

    class Listening(Sampler):
        def read(self, ids: NDArray[np.int32], tick: Tick = lambda _: None) -> None:
            heard.append(read.vocabulary.decode(ids))
            super().read(ids, tick)

    lines = "\t\r\n\ufeff<\n>\\\r\n:length\n:length -1\n:length inf\n:temperature\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    sampler = Listening(read, on_gpu=False)
    config = SampleConfig(length="1", temperature=0.0)
    opening = read.vocabulary.encode("\n")
    converse(Conversation(sampler, read.vocabulary, config, opening, seed=1))
    assert heard == ["\n", "\t\r\n", "\ufeff<\r\n", ">"]  # with the line end of the training text
    number = "must be a whole number of at most 15 digits: every answer must end"
    missing = "its value is missing; :help shows the commands"
    assert capsys.readouterr().err.splitlines() == [
        *(f":length: {missing}", *[f":length: {number}"] * 2, f":temperature: {missing}")
    ]


def test_a_terminal_has_a_prompt_and_a_history(weights: Path, tmp_path: Path) -> None:
    up, left = b"\x1b[A", b"\x1b[D"
    code, shown = on_a_terminal(
        *(tmp_path, "sample", weights, "--interactive", "--length", "6", "--temperature", "0"),
        typed=[
            ("> ", b"cel" + left + b"l\n"),  # "cell", with the help of an arrow key
            ("\r\n> ", b":reset\n"),
            ("\r\n> ", up + up + b"\n"),
            ("\r\n> ", b":next\n"),
            ("\r\n> ", b":help\n"),
            ("\r\n> ", b":temperature x\n"),
            ("\r\n> ", b"\x04"),
        ],
    )
    assert code == 0, shown
    text = shown.replace("\r\n", "\n")
    expected = Oracle(weights).write("\ncell\n", 6, 0, seed=0)
    assert text.count(f"{expected}\n") == 2
    oracle = Oracle(weights)
    logits = oracle.logits(f"\ncell\n{expected}")[-1]
    best = max(range(len(logits)), key=lambda i: logits[i])
    likeliest = [line for line in text.splitlines() if "%" in line]
    assert len(likeliest) == 10
    assert f"(U+{ord(oracle.characters[best]):04X})" in likeliest[0]
    assert ":temperature X" in text
    assert "not a valid float" in text


def test_an_interrupt_ends_a_conversation_like_any_command(weights: Path, tmp_path: Path) -> None:
    typed = [("> ", b"ce"), ("ce", b"\x03")]
    code, shown = on_a_terminal(tmp_path, "sample", weights, "--interactive", typed=typed)
    assert code == 130, shown
    # Another thread responds to the signal: its line can come before or after this one.
    shown = shown.replace("\r\ncharlstm: stopping; press Ctrl+C again to quit at once", "")
    assert shown.endswith("\r\ncharlstm: interrupted\r\n")
