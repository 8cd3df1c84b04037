"""The report's page and its tables."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from resolute.errors import InputError
from resolute.report import figures, page
from resolute.report.comparison import summarise
from resolute.report.page import console_summary, console_table, escape, markdown_table, show, write_report
from resolute.report.run import load_run
from resolute.run_folder import read_bits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeRun = Callable[..., Path]
    from resolute.report.comparison import Entry

VOID = {"meta", "link", "br"}
STYLE = page.TEMPLATES / "style.css"


class Page(HTMLParser):
    """A page's tags, checked to be closed in order, its headings and its main table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"h1", "h2"}:
            self.headings.append("")
        if dict(attrs).get("role") in {"cell", "rowheader"}:
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"h1", "h2"} & set(self.open):
            self.headings[-1] += data
        if self.cells and {"td", "th"} & set(self.open) and "main" not in self.open:
            self.cells[-1] += f" {data}"


def written(folder: Path) -> str:
    return write_report(folder).path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Path]) -> Path:
    return build(tmp_path_factory.mktemp("html") / "run")


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return written(folder)


def test_the_page_stands_alone(text: str) -> None:
    page = Page(text)
    assert not re.search(r"https?:|//\w|@import|url\((?!#)|javascript:", text)
    assert not {"script", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert {attrs["href"] for tag, attrs in page.tags if tag == "link"} == {"data:,"}
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_order_is_verdict_table_pictures_limits_making(text: str) -> None:
    headings = Page(text).headings
    assert headings[0].startswith("Use r: 10.52 points fewer errors under Gaussian noise (")
    assert headings[1:] == [
        *("Errors and costs", "Error against severity", "Seed by seed", "Training"),
        *("The tests behind the table", "What this does not show", "How it was made"),
    ]


def test_the_table_holds_the_numbers_of_the_bits(folder: Path, text: str) -> None:
    keys = [("noise", "gaussian-noise", severity) for severity in (0.1, 0.2, 0.3)]
    errors = {
        method: np.array([
            [1 - read_bits(folder / "cells" / f"{method}-seed{seed}" / "bits.npz")[key].mean() for key in keys]
            for seed in range(5)
        ]).mean()
        for method in ("base", "r")
    }  # fmt: skip
    cells = [" ".join(cell.split()) for cell in Page(text).cells[:18]]
    rows = {cells[i]: cells[i + 1 : i + 6] for i in range(0, 18, 6)}
    assert list(rows) == ["base", "fgsm", "r"]
    assert rows["base"][1].startswith(f"{100 * errors['base']:.2f} ")
    assert rows["r"][1].startswith(f"{100 * errors['r']:.2f} lowest ")
    assert rows["r"][1].endswith(f" \N{MINUS SIGN}{100 * (errors['base'] - errors['r']):.2f} better")
    assert rows["r"][0].endswith("no difference seen")
    assert "lowest" not in rows["r"][0]
    assert rows["base"][3:] == ["1.00 3.1 ms", "1"]
    assert rows["fgsm"][3:] == ["2.58 2.55 to 2.61", "3"]


def test_names_are_escaped_everywhere(make_run: MakeRun) -> None:
    evil, image = "<script>alert(1)", '<i x="'
    folder = make_run(
        methods=("base", image, "r"),
        seeds=(0, 1),
        data=f"{evil}'\"&",
        class_names=(evil, "</title><b>"),
        keys=(("clean", evil, 0.5),),
    )
    text = written(folder)
    assert "script" not in {tag for tag, _ in Page(text).tags}
    assert "&lt;script&gt;alert(1)" in text
    assert not [bad for bad in ("<script", image, "</title><b>") if bad in text]
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    command = next(line for line in markdown.splitlines() if line.startswith("    "))  # a code block: shown as it is
    assert "&lt;script&gt;" in markdown
    assert not [bad for bad in ("<script", image) if bad in markdown.replace(command, "")]


def test_the_same_files_give_the_same_bytes(folder: Path, text: str, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("report.*"))
    code = (
        "import sys, pathlib; from resolute.report import write_report; write_report(pathlib.Path(sys.argv[1])); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "elsewhere")]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout == "False\n"
    assert (tmp_path / "elsewhere" / "report.html").read_bytes() == text.encode()
    assert (tmp_path / "elsewhere" / "report.md").read_bytes() == (folder / "report.md").read_bytes()


def test_a_partial_run_says_what_is_missing(make_run: MakeRun) -> None:
    folder = make_run(seeds=(0, 1), unfinished=(("r", 0), ("base", 1)))
    text = written(folder)
    said = "The run is not finished: 2 of 6 cells are missing (base seed 1 and r seed 0)."
    assert f'<p class="missing">{said}</p>' in text
    assert said in (folder / "report.md").read_text(encoding="utf-8")
    assert 'class="missing"' not in written(make_run("whole", seeds=(0,)))


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": (0,)},
        {"methods": ("base",)},
        {"seeds": (0,), "unfinished": (("base", 0),)},
        {"unfinished": tuple(("r", seed) for seed in range(5))},
        {"keys": (("clean", "clean", 0.0),)},
        {"n": 1, "seeds": (0, 1)},
        {"methods": ("base", *(f"method-{i}" for i in range(8))), "seeds": (0, 1)},
        {"epochs": 0},
    ],
)
def test_unusual_runs_have_a_report(make_run: MakeRun, changes: dict[str, object]) -> None:
    text = written(make_run(**changes))
    assert "How it was made" in Page(text).headings
    assert not re.search(r"\bnan\b|\binf\b|None(?! of these methods)", text)


def test_how_it_was_made_is_all_there(folder: Path, text: str) -> None:
    for written in (text, (folder / "report.md").read_text(encoding="utf-8")):
        for part in ("resolute compare --data digits", "A processor", "cosine", "0, 1, 2, 3, 4", "431,080", "SHA-256"):
            assert part in written


def test_a_run_started_from_python_quotes_no_command(make_run: MakeRun) -> None:
    folder = make_run(seeds=(0,))
    path = folder / "recipe.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"command": ""}), encoding="utf-8")
    for text in (written(folder), (folder / "report.md").read_text(encoding="utf-8")):
        assert "Started from Python" in text
    assert "<pre>" not in written(folder)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is this a run folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = (
        "import sys, resolute.report; print([m for m in ('matplotlib', 'scipy', 'jinja2', 'rich', 'lightning_fabric') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def _luminance(colour: str) -> float:
    code = colour.lstrip("#")
    code = "".join(2 * c for c in code) if len(code) == 3 else code
    parts = [int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_legible_in_light_and_dark() -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#\w+);", block))
        page = _luminance(colours["page"])
        for name in ("ink", "muted", "better", "worse", *(f"label{i}" for i in range(len(figures.LABELS)))):
            light, dark = sorted((page, _luminance(colours[name])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def printed(folder: Path, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(console_table(summarise(load_run(folder))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def error(entry: Entry, dash: str) -> list[str]:
    mean, low, high = (f"{100 * value:.2f}" for value in (entry.error.mean, entry.error.low, entry.error.high))
    return [mean, f"({low}{dash}{high})"]


def change(entry: Entry) -> str:
    assert entry.comparison is not None
    change = entry.comparison.found.difference
    return f"{100 * change.mean:+.2f} ({100 * change.low:+.2f} to {100 * change.high:+.2f})"


def p(entry: Entry) -> str:
    assert entry.comparison is not None
    return "<0.001" if entry.comparison.found.p_holm < 0.001 else f"{entry.comparison.found.p_holm:.3f}"


@pytest.mark.parametrize("width", [80, 120])
def test_the_console_table_says_all_of_a_comparison_in_a_line(make_run: MakeRun, width: int) -> None:
    folder = make_run()
    lines = printed(folder, width)
    assert max(map(cell_len, lines)) <= width
    words = [line.split() for line in lines]
    summary = summarise(load_run(folder))
    base, clean, noise = (summary.table[place] for place in (("base", "clean"), ("r", "clean"), ("r", "noise")))
    assert ["clean", "base", *" ".join(error(base, " to ")).split()] in words
    assert ["r", error(clean, "")[0], *change(clean).split(), "none", "seen,", "p", p(clean)] in words
    assert ["r", "*", error(noise, "")[0], *change(noise).split(), "better,", "p", p(noise)] in words
    assert ["step", "time", "base", "1.00", "1", "gradient", "pass"] in words
    assert ["fgsm", "2.58", "(2.55", "to", "2.61)", "3", "gradient", "passes"] in words


def test_one_seed_claims_nothing(make_run: MakeRun) -> None:
    words = [line.split() for line in printed(make_run(seeds=(0,)), 80)]
    assert sum(line[-2:] == ["one", "seed"] for line in words) == 6
    assert not any("seen" in line for line in words)


def test_the_console_table_does_not_read_names_as_markup(make_run: MakeRun) -> None:
    text = "\n".join(printed(make_run(methods=("base", "[red]x", "r")), 100))
    assert text.count("[red]x") == 4  # three suites and the costs


def test_a_gap_is_a_dash(make_run: MakeRun) -> None:
    words = [line.split() for line in printed(make_run(unfinished=tuple(("r", s) for s in range(5))), 80)]
    assert ["r", "—"] in words


def test_the_markdown_table(make_run: MakeRun) -> None:
    summary = summarise(load_run(make_run()))
    lines = markdown_table(summary).splitlines()
    base, clean, noise = (summary.table[place] for place in (("base", "clean"), ("r", "clean"), ("r", "noise")))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["method", "clean, %", "noise, %", "fgsm, %", "time per step", "gradient passes"]
    assert {len(row) for row in rows} == {6}
    assert rows[2][:2] == ["base", " ".join(error(base, " to "))]
    assert rows[2][4:] == ["1.00", "1"]
    assert rows[4][1].startswith(" ".join(error(clean, " to ")) + f"<br>{change(clean)}<br>")
    assert rows[4][1].endswith(")<br>no difference seen")
    mean, interval = error(noise, " to ")
    assert rows[4][2].startswith(f"**{mean}** {interval}<br>{change(noise)}<br>")
    assert rows[4][2].endswith(")<br>better")
    assert rows[3][4:] == ["2.58 (2.55 to 2.61)", "3"]


def test_markdown_escapes_names(make_run: MakeRun) -> None:
    table = markdown_table(summarise(load_run(make_run(methods=("base", "<b>|*x*", "r")))))
    assert r"| &lt;b&gt;\|\*x\* |" in table
    assert escape("a\nb `c` [d](e) \\") == r"a\\nb \`c\` \[d\](e) \\"


EVIL = "\x1b]0;owned\x07\x1b[31m\r\n\x9b2J\u202egnp.\t|`<b>"
HIDDEN = [each for each in EVIL if not each.isprintable()]


def test_no_name_reaches_a_reader_raw(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, line ends and marks of direction in names of data, classes, methods and shifts."""
    folder = make_run(methods=("base", EVIL, "r"), data=EVIL, class_names=(EVIL, "b"), keys=(("clean", EVIL, 0.5),))
    page, summary = write_report(folder)
    show(console_summary(summary), folder / EVIL)
    for text in (page.read_text(), (folder / "report.md").read_text(), *capsys.readouterr()):
        assert not {*text} & {*HIDDEN} - {"\n"}
        assert "owned" not in text or r"\x1b]0;owned" in text.replace("\\\\", "\\").replace("\\]", "]")
    assert not [line for line in (folder / "report.md").read_text().splitlines() if line.startswith("\\x9b")]
