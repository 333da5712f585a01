"""Read the history of a run: JSON lines about steps and epochs."""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charlstm.files import read_errors


@dataclass(frozen=True)
class Epoch:
    """One finished epoch; losses are in nats, None if missing or not finite."""

    epoch: int
    train_loss: float | None
    valid_loss: float | None
    seconds: float | None = None  # since the training began
    characters_per_second: float | None = None


def read_lines(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the complete lines of a history from byte ``start`` on, and where each ends, in bytes.

    A missing file has no lines. Raises CharlstmError if the file cannot be read.
    """
    with read_errors(path), suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        for text in file:
            if text.endswith(b"\n"):  # the last line may still be incomplete
                start += len(text)
                yield parse_line(text.decode("utf-8", "replace")), start


def parse_line(text: str) -> dict[str, Any]:
    """Return the JSON object in a line of the history; empty if it is truncated or invalid."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # still being written, or not written by charlstm
        return {}
    return line if isinstance(line, dict) else {}


def epochs(lines: Iterable[dict[str, Any]]) -> list[Epoch]:
    """Return the finished epochs that the lines record."""
    finished = []
    for line in lines:
        match line:
            case {"kind": "epoch", "epoch": int(epoch)}:
                clock = line.get("clock")
                clock = clock if isinstance(clock, dict) else {}
                keys = ("train_loss", "valid_loss"), ("seconds", "characters_per_second")
                numbers = [_number(line, key) for key in keys[0]]
                finished.append(Epoch(epoch, *numbers, *(_number(clock, key) for key in keys[1])))
    return finished


def best(finished: Iterable[Epoch]) -> int | None:
    """Return the earliest epoch with the lowest validation loss; None without validation."""
    losses = [(e.valid_loss, e.epoch) for e in finished if e.valid_loss is not None]
    return min(losses)[1] if losses else None


def steps(lines: Iterable[dict[str, Any]]) -> list[tuple[int, int, float]]:
    """Return (epoch, step, loss) for each line about a step with a finite loss."""
    logged = []
    for line in lines:
        match line:
            case {"kind": "step", "epoch": int(epoch), "step": int(step), "loss": float(loss)} if (
                math.isfinite(loss)
            ):
                logged.append((epoch, step, loss))
    return logged


def steps_done(line: dict[str, Any], steps_of_epoch: int) -> int:
    """Return the number of steps that the training had done when it wrote a line."""
    match line:
        case {"kind": "step", "epoch": int(epoch), "step": int(step)}:
            return (epoch - 1) * steps_of_epoch + step
        case {"kind": "epoch", "epoch": int(epoch)}:
            return epoch * steps_of_epoch
    return 0


def bits_per_char(loss: float) -> float:
    """Convert a loss from nats to bits: nats / ln 2."""
    return loss / math.log(2)


def _number(values: dict[str, Any], key: str) -> float | None:
    value = values.get(key)
    return value if isinstance(value, float) and math.isfinite(value) else None


def end_of_epoch(path: Path, epoch: int) -> int:
    """Return where the entry of ``epoch``, or of one before it, ends in a history, in bytes."""
    until = 0
    for line, end in read_lines(path):
        match line:
            case {"kind": "epoch", "epoch": int(finished)} if finished <= epoch:
                until = end
    return until
