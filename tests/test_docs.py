"""README.md and docs/: links lead somewhere, commands are right, help texts are those of today."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_here
from manual import COMMANDS_PAGE, PAGES, ROOT, Block, blocks, helps

from charlstm.cli import program

TEXTS = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "bench" / "results.md",
    ROOT / "bench" / "exports.md",
    ROOT / "bench" / "presets.md",
    ROOT / "bench" / "recipe.md",
    ROOT / "bench" / "scaling.md",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
BLOCKS = [block for page in PAGES for block in blocks(page)]
IDS = pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Return what a page links to, and its pictures."""
    return ["".join(groups) for groups in LINK.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def test_readme_can_be_read_at_one_sitting() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 150


@IDS
def test_each_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_each_page_of_the_manual_is_linked_from_readme() -> None:
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= set(links(ROOT / "README.md"))


@pytest.mark.parametrize("block", helps().values(), ids=list(helps()))
def test_the_manual_has_the_help_of_each_command(block: str) -> None:
    assert block in COMMANDS_PAGE.read_text("utf-8"), "python tests/manual.py --write-help"


def commands() -> Iterator[tuple[Block, list[str]]]:
    for block in BLOCKS:
        for words in block.charlstm_commands():
            yield block, words


def test_each_command_of_the_manual_is_right_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options are there, and have values that they can have; nothing is run."""
    monkeypatch.chdir(tmp_path)
    count = 0
    for block, (name, *words) in commands():
        if block.fails or {"--help", "-h", "--version"} & {name, *words}:
            continue
        for word in words:
            if word.endswith(".toml"):
                Path(word).parent.mkdir(parents=True, exist_ok=True)
                Path(word).touch()
        program.commands[name].make_context(f"charlstm {name}", words)
        count += 1
    assert count > 40


def test_quick_commands_of_the_manual_run(trained: Path, tmp_path: Path) -> None:
    """The slower ones are run by ``make docs``."""
    shutil.copytree(trained, tmp_path / "checkpoints" / "input")
    quick = [words for _, words in commands() if words[0] in {"show", "--help", "--version"}]
    assert len(quick) > 3
    for words in quick:
        done = run_here(tmp_path, *words)
        assert done.returncode == 0, (words, done.stderr)
