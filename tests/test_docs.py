"""What the documents show runs, and what they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from resolute.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


COMMANDS = [
    (page.name, line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.splitlines()
    if line.startswith("resolute ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_of_a_page_is_one_that_there_is(page: str, line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)[1:]
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0, f"{page}: {line}"
    assert all(flag in shown.output for flag in flags), f"{page}: {line}"


def test_the_readme_shows_commands() -> None:
    assert any(page == "README.md" for page, _ in COMMANDS)


def test_the_file_tree_of_the_readme_is_the_real_one() -> None:
    (tree,) = blocks(ROOT / "CONTRIBUTING.md", "text")
    folder, named = ROOT, set()
    for line in tree.splitlines():
        indent, entry = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        folder = {0: ROOT, 2: ROOT / "src/resolute"}[len(indent)]
        path = folder / entry
        assert path.exists(), f"{entry} is in CONTRIBUTING.md and not in the tree"
        if folder == ROOT / "src/resolute":
            named.add(path.name)
    assert named == {path.name for path in (ROOT / "src/resolute").iterdir()} - {"__pycache__"}


def test_every_line_of_the_file_tree_takes_eight_words_at_most() -> None:
    (tree,) = blocks(ROOT / "CONTRIBUTING.md", "text")
    assert [line for line in tree.splitlines() if len(line.split()) > 9] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
