"""The options of ``charlstm sample``, which its interactive mode shares."""

from dataclasses import dataclass

from charlstm.cli._options import FILE, epoch_option
from charlstm.config import device_option, encoding_option
from charlstm.inference import LENGTH, AdaptOptions, DrawOptions, unknown_option
from charlstm.options import option

MOST_SAMPLES = 2**40


@dataclass(frozen=True, kw_only=True)
class SampleConfig(AdaptOptions, DrawOptions):
    """How text is sampled, and how it is printed."""

    adapt: str | None = option(
        None, "Learn from a text first, without a change to the model's file.", **FILE
    )
    prime_file: str | None = option(
        None, "Read the opening text from a file; -: from standard input.", heading="Text", **FILE
    )
    encoding: str = encoding_option("Encoding of the texts of {prime_file} and {adapt}.")
    hide_prime: bool = option(default=False, help="Print only the new text, without the prime.")
    unknown: str = unknown_option()
    length: str = option(
        str(LENGTH),
        "Number of characters to sample; inf: until interrupted.",
        pattern=r"[0-9]{1,15}|inf",
        metavar="N|inf",
        meaning="a whole number of at most 15 digits, or inf",
    )
    stop: tuple[str, ...] = option(
        (),
        "Stop before this text appears; can be repeated.",
        pattern=r"(?s).+",
        metavar="TEXT",
        meaning="a text of at least one character",
    )
    samples: int = option(
        1,
        "Number of texts, sampled in parallel and printed one after the other.",
        low=1,
        high=MOST_SAMPLES,
    )
    separator: str = option("-" * 20, "Line between texts; '': none.", metavar="TEXT")
    records: int | None = option(
        None,
        "Sample whole records, with a model that was trained on records.",
        low=1,
        high=MOST_SAMPLES,
        heading="Records",
    )
    unique: bool = option(default=False, help="Leave out records that were already sampled.")
    novel: bool = option(default=False, help="Leave out records that are in the training text.")
    # With a limit, a model that never ends a record does not run for ever.
    max_length: int = option(10_000, "Leave out records with more characters.", low=1)
    json: bool = option(
        default=False,
        heading="Output",
        help="Print one JSON object per text or record, each on a line of its own.",
    )
    output: str | None = option(None, "Write to a file, once all texts are complete.", **FILE)
    color: bool = option(
        default=False, help="On a terminal, shade each character by its surprisal."
    )
    copied: bool = option(
        default=False,
        help="Say how much of each text is in the training text, in passages of 20 or more "
        "characters; {color} marks these.",
    )
    interactive: bool = option(
        default=False, help="Type lines, which the model continues; :help lists commands."
    )
    epoch: str = epoch_option(heading="Model")
    device: str = device_option()

    @property
    def characters(self) -> float:
        """The number of characters to sample."""
        return float(self.length)
