"""The options of inference: of sampling, and of scoring a text. Knows neither Click nor Keras."""

from dataclasses import dataclass
from typing import Any

from charlstm.config import SEED_LIMIT, device_option
from charlstm.options import option

LENGTH, TEMPERATURE = 256, 1.0  # defaults of sampling
ADAPT_RATE, ADAPT_DECAY, ADAPT_SEGMENT = 1e-3, 0.01, 50
LONGEST_SEGMENT = 512  # characters


def unknown_option() -> Any:
    """Declare the option that rejects or skips characters outside the vocabulary."""
    return option(
        "error", "What to do with characters outside the vocabulary.", choices=("error", "skip")
    )


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """How characters are drawn."""

    temperature: float = option(
        TEMPERATURE,
        "Sampling temperature: lower is safer, higher is bolder; 0: always the likeliest.",
        low=0,
        heading="Sampling",
    )
    top_k: int | None = option(None, "Sample from the k most likely characters.", low=1)
    top_p: float | None = option(
        None,
        "Sample from the likeliest characters that together reach probability p.",
        low=0,
        high=1,
        open_ends="low",
    )
    min_p: float | None = option(
        None,
        "Sample from characters at least p times as likely as the likeliest.",
        low=0,
        high=1,
        open_ends="high",
    )
    allow_unknown: bool = option(
        default=False, help="Also draw U+FFFD, if it stands for rare characters."
    )
    seed: int | None = option(
        None, "Random seed; by default, a new one each time.", low=0, high=SEED_LIMIT - 1
    )
    prime: str = option(
        "", "Opening text, which the model continues.", metavar="TEXT", heading="Text"
    )


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """How a model keeps learning while it reads."""

    adapt_rate: float = option(
        ADAPT_RATE, "Learning rate of {adapt}.", low=0, open_ends="low", heading="Adaptation"
    )
    adapt_decay: float = option(
        ADAPT_DECAY, "How much {adapt} returns to the first weights, per segment.", low=0, high=1
    )
    adapt_segment: int = option(
        ADAPT_SEGMENT, "Characters that {adapt} learns from at a time.", low=1, high=LONGEST_SEGMENT
    )


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(AdaptOptions):
    """How a text is scored."""

    batch_size: int | None = option(
        None,
        "Score the text in this many parallel lanes: faster, but each starts without context.",
        low=1,
    )
    unknown: str = unknown_option()
    per_line: bool = option(default=False, help="Also score each line, including its line end.")
    reset: bool = option(
        default=False,
        help="Score each line by itself, as if nothing but a line end were before it.",
    )
    per_record: bool = option(
        default=False, help="Also score each record, if the model was trained on records."
    )
    adapt: bool = option(
        default=False,
        help="Learn from each part of the text once it is scored (dynamic evaluation).",
    )
    device: str = device_option()
