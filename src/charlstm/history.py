"""What the lines of a run's history say. Knows no files."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One finished epoch; losses are nats, None where the line has none that is finite."""

    epoch: int
    train_loss: float | None
    valid_loss: float | None
    seconds: float | None = None  # since the training began
    characters_per_second: float | None = None


def parse_line(text: str) -> dict[str, Any]:
    """Return what a line of the history says; nothing of one that is cut short or not ours."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # the last line, while it is being written, or not ours
        return {}
    return line if isinstance(line, dict) else {}


def epochs(lines: Iterable[dict[str, Any]]) -> list[Epoch]:
    """Return what the lines say about epochs."""
    found = []
    for line in lines:
        match line:
            case {"kind": "epoch", "epoch": int(epoch)}:
                clock = line.get("clock")
                clock = clock if isinstance(clock, dict) else {}
                keys = ("train_loss", "valid_loss"), ("seconds", "characters_per_second")
                numbers = [_number(line, key) for key in keys[0]]
                found.append(Epoch(epoch, *numbers, *(_number(clock, key) for key in keys[1])))
    return found


def best(found: Iterable[Epoch]) -> int | None:
    """Return the epoch of the lowest validation loss, the earlier of equals; None without any."""
    losses = [(e.valid_loss, e.epoch) for e in found if e.valid_loss is not None]
    return min(losses)[1] if losses else None


def steps(lines: Iterable[dict[str, Any]]) -> list[tuple[int, int, float]]:
    """Return (epoch, step, loss) of the lines about steps whose loss is finite."""
    found = []
    for line in lines:
        match line:
            case {"kind": "step", "epoch": int(epoch), "step": int(step), "loss": float(loss)} if (
                math.isfinite(loss)
            ):
                found.append((epoch, step, loss))
    return found


def steps_done(line: dict[str, Any], steps_of_epoch: int) -> int:
    """Return how many steps of the training were done when a line was written."""
    match line:
        case {"kind": "step", "epoch": int(epoch), "step": int(step)}:
            return (epoch - 1) * steps_of_epoch + step
        case {"kind": "epoch", "epoch": int(epoch)}:
            return epoch * steps_of_epoch
    return 0


def bits_per_char(loss: float) -> float:
    """Return a loss in nats as bits: nats / ln 2."""
    return loss / math.log(2)


def _number(values: dict[str, Any], key: str) -> float | None:
    value = values.get(key)
    return value if isinstance(value, float) and math.isfinite(value) else None
