from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len
from rich.console import Console

from resolute.report.comparison import summarise
from resolute.report.page import console_table, escape, markdown_table
from resolute.report.run import load_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.report.comparison import Entry

    MakeRun = Callable[..., Path]


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
    change = entry.comparison.paired.difference
    return f"{100 * change.mean:+.2f} ({100 * change.low:+.2f} to {100 * change.high:+.2f})"


def p(entry: Entry) -> str:
    assert entry.comparison is not None
    return "<0.001" if entry.comparison.p_holm < 0.001 else f"{entry.comparison.p_holm:.3f}"


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
    assert ["fgsm", "2.59", "(2.58", "to", "2.60)", "3", "gradient", "passes"] in words


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
    assert rows[3][4:] == ["2.59 (2.58 to 2.60)", "3"]


def test_markdown_escapes_names(make_run: MakeRun) -> None:
    table = markdown_table(summarise(load_run(make_run(methods=("base", "<b>|*x*", "r")))))
    assert r"| &lt;b&gt;\|\*x\* |" in table
    assert escape("a\nb `c` [d](e) \\") == r"a b \`c\` \[d\](e) \\"
