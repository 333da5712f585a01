"""The commands of README.md and docs/, and whether they run: ``python tests/manual.py [TEXT]``.

The commands of each page run from top to bottom in a folder of their own, with the texts that the
page names and a run of ``input.txt``. By default, texts are short and models tiny; with TEXT,
``input.txt`` is that text, and the settings are those of the page. A command that the page shows
with an error must fail; all others must succeed.

``python tests/manual.py --write-help`` brings the help texts in docs/commands.md up to date.
"""

import os
import re
import shlex
import string
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

from charlstm.cli import program
from charlstm.hardware import has_bfloat16
from charlstm.text.opening import demo_text

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Commands that need a network, other hardware or a person, or that are not about charlstm.
ELSEWHERE = re.compile(
    r"^(pip|pipx|uv|make|curl|git|docker|srun|sbatch|nvidia-smi|tensorboard|python3?\.\d+|exec|eval"
    r"|_CHARLSTM_COMPLETE=.*|export TF_CONFIG.*"
    r"|.*--interactive.*|.*--require-gpu.*|.*--device gpu.*|.* float16.*)\b",
    re.MULTILINE,
)
SHORT = 20_000  # characters
TINY = {"UNITS": "24", "LAYERS": "1", "EPOCHS": "2", "BATCH_SIZE": "8", "SEQUENCE_LENGTH": "16"}
PIPE = {"|", ">", ">>", "<", "&&", "||", ";", "(", ")", "&", "|&", "do", "done", "then", "!"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its commands, and what they print in the page."""

    page: Path
    script: str
    shown: str

    @property
    def fails(self) -> bool:
        """Whether the page shows an error."""
        error = r"^(charlstm: (?!interrupted|stopping)|Error: )"
        return bool(re.search(error, self.shown, re.MULTILINE))

    @property
    def runs_here(self) -> bool:
        """Whether any machine can run the block by itself."""
        supported = "bfloat16" not in self.script or has_bfloat16()
        return supported and not ELSEWHERE.search(self.script) and bool(self.script.strip())

    def charlstm_commands(self) -> Iterator[list[str]]:
        """Yield the words behind each ``charlstm``, to the end of that command."""
        lexer = shlex.shlex(self.script.replace("\\\n", " "), posix=True, punctuation_chars=True)
        lexer.commenters = "#"
        lexer.whitespace = " \t"  # a line ends a command
        words: list[str] | None = None
        for word in [*lexer, "\n"]:
            if words is None and word in {"charlstm", "(charlstm"}:
                words = []
            elif words is not None and (word in PIPE or word.startswith("\n")):
                if word.startswith(">") and words[-1:] == ["2"]:
                    del words[-1]
                yield from [words] if words else []
                words = None
            elif words is not None:
                words.append(word)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page that have commands."""
    for language, content in FENCED.findall(page.read_text("utf-8")):
        if language == "sh":
            yield Block(page, content, "")
        elif language == "console":
            for part in re.split(r"^(?=\$ )", content, flags=re.MULTILINE):
                if part.startswith("$ "):
                    command, _, shown = part[2:].partition("\n")
                    yield Block(page, command + "\n", shown)


def helps() -> dict[str, str]:
    """Return the block of docs/commands.md for each help text, 80 columns wide, by its command."""
    shown = {}
    for command in [[], *([name] for name in sorted(program.commands))]:
        title = " ".join(["charlstm", *command, "--help"])
        done = CliRunner(env={"COLUMNS": "80"}).invoke(
            program, [*command, "--help"], prog_name="charlstm"
        )
        shown[title] = f"```console\n$ {title}\n{done.stdout}```\n"
    return shown


def write_helps() -> None:
    """Replace the help texts in docs/commands.md by those of today."""
    page = COMMANDS_PAGE.read_text("utf-8")
    for title, block in helps().items():
        old = re.compile(rf"```console\n\$ {title}\n.*?^```\n", re.MULTILINE | re.DOTALL)
        page = old.sub(lambda _, block=block: block, page)  # type: ignore[misc] # mypy#10740
    COMMANDS_PAGE.write_text(page, "utf-8")


def follow(page: Path, text: str, settings: dict[str, str]) -> list[str]:
    """Run the commands of a page in order; return what went wrong."""
    problems: list[str] = []
    all_blocks = list(blocks(page))
    words = " ".join(block.script for block in all_blocks)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").symlink_to(ROOT / "examples")
        for file in {"input.txt", *re.findall(r"[\w-]+\.txt\b", words)}:
            (folder / file).write_text(text if file == "input.txt" else text[:2000], "utf-8")
        # Without a GPU, as the pages show it.
        environment = {**os.environ, **settings, "PATH": path, "CUDA_VISIBLE_DEVICES": ""}
        if all_blocks:
            _bash("charlstm train input.txt", folder, environment)
        for block in filter(lambda block: block.runs_here, all_blocks):
            more = {} if "--resume" in block.script else {"CHARLSTM_TRAIN_OVERWRITE": "1"}
            done = _bash(block.script, folder, environment | ({} if block.fails else more))
            if bool(done.returncode) != block.fails:
                expected = "an error" if block.fails else "success"
                problems.append(f"{page.name}: {block.script}  {expected} expected:\n{done.stderr}")
    return problems


def _bash(
    script: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def main() -> int:
    if sys.argv[1:] == ["--write-help"]:
        write_helps()
        return 0
    if sys.argv[1:]:
        text, settings = Path(sys.argv[1]).read_text("utf-8"), {}
    else:
        text = demo_text().stream.read().decode()[:SHORT] + string.printable
        settings = {f"CHARLSTM_TRAIN_{name}": value for name, value in TINY.items()}
    problems = []
    for page in PAGES:
        found = follow(page, text, settings)
        click.echo(f"{page.relative_to(ROOT)}: {len(found)} problems")
        problems += found
    click.echo("\n".join(textwrap.indent(problem, "  ") for problem in problems), nl=False)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
