"""The options of ``charlstm sample``, which its conversation has as well."""

from dataclasses import dataclass

from charlstm.cli._options import FILE, epoch_option
from charlstm.config import LENGTH, DrawOptions, device_option, unknown_option
from charlstm.options import option

MOST_SAMPLES = 2**40


@dataclass(frozen=True, kw_only=True)
class SampleConfig(DrawOptions):
    """How a text is drawn, and what is shown of it."""

    prime_file: str | None = option(
        None, "Take the opening text from a file; -: from standard input.", **FILE
    )
    hide_prime: bool = option(default=False, help="Print only what is drawn.")
    unknown: str = unknown_option()
    length: str = option(
        str(LENGTH),
        "Characters to draw; inf: until it is stopped.",
        pattern=r"[0-9]{1,15}|inf",
        metavar="N|inf",
        meaning="a whole number of at most 15 digits, or inf",
    )
    stop: tuple[str, ...] = option(
        (),
        "End before this text is drawn; may be given several times.",
        pattern=r"(?s).+",
        metavar="TEXT",
        meaning="a text of at least one character",
    )
    samples: int = option(
        1, "Texts to draw; above 1, each is printed whole.", low=1, high=MOST_SAMPLES
    )
    separator: str = option("-" * 20, "A line between two texts; '': none.", metavar="TEXT")
    json: bool = option(default=False, help="Print an object of JSON a text, one a line.")
    output: str | None = option(None, "Write to a file, when all is drawn.", **FILE)
    color: bool = option(
        default=False, help="On a terminal, shade what is drawn by how much it surprises the model."
    )
    interactive: bool = option(default=False, help="Answer line by line; :help tells more.")
    epoch: str = epoch_option()
    device: str = device_option()

    @property
    def characters(self) -> float:
        """How many characters to draw."""
        return float(self.length)
