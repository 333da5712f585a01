"""What several rooms' tests need: the program as a user runs it, a text, a run trained on it."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[bytes]]

# Every axis of the small model has another size: layers 2, units 24, vocabulary 27, B 3, T 10.
SMALL = "--units 24 --layers 2 --batch-size 3 --sequence-length 10 --learning-rate 0.01".split()


def environment(**more: str) -> dict[str, str]:
    """Return the environment without what would steer the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHARLSTM")}
    return {**kept, **more}


@pytest.fixture
def charlstm(tmp_path: Path) -> Run:
    """Run the program in an empty folder."""

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "charlstm", *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**more),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def text() -> str:
    """Return a text of our own in which there is something to learn, in three scripts."""
    source = random.Random(7)
    words = ["the", "cell", "forgets", "gate", "naïve", "αβγ", "学而时习", "👩\u200d🚀", "e\u0301"]
    return "".join(source.choice(words) + source.choice(" \n") for _ in range(400))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """Return the folder of a run of two epochs, with validation."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "words.txt").write_text(text, "utf-8", newline="")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "charlstm",
            "train",
            "words.txt",
            *SMALL,
            *"--epochs 2 --log-every 5".split(),
        ],
        cwd=folder,
        env=environment(),
        stdout=(folder / "out").open("wb"),
        stderr=(folder / "err").open("wb"),
        timeout=300,
        check=True,
    )
    return folder / "checkpoints" / "words"
