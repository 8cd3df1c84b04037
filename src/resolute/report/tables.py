"""The run's one table, for a terminal and for a page of Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resolute.report.formats import NONE, WORDS, bounds, brief, count, p_value, percent, points, signed_bounds, times

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from resolute.report.summary import Comparison, Cost, Entry, Summary

COLOURS = {"better": "green", "worse": "red", "no difference seen": "dim"}


def console_table(summary: Summary) -> RenderableType:
    """Lay the run out for a terminal of 80 columns: a block for each suite, a line for each method, costs below.

    Args:
        summary: What to show.

    Returns:
        A rich table.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    caption = f"intervals: of the error of {summary.baseline}, of the others' differences to it; p after Holm"
    if any(entry.best for entry in summary.table.values()):
        caption = f"* lowest, and different from every other method\n{caption}"
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        caption=caption,
        caption_justify="left",
        caption_style="dim",
    )
    table.add_column("")
    table.add_column("method", overflow="fold")
    table.add_column("error, %", justify="right")
    table.add_column(Text(f"less {summary.baseline} (95 %)"), justify="right")
    table.add_column("verdict")
    for suite in summary.suites:
        for method in summary.methods:
            table.add_row(
                *_console_row(summary.table[method, suite], summary), end_section=method == summary.methods[-1]
            )
    for method in summary.methods:
        cost = summary.costs[method]
        name = "step time" if method == summary.methods[0] else ""
        span = "" if _steady(cost) else f"({times(cost.low)}-{times(cost.high)})"
        passes = "" if math.isnan(cost.passes) else count(round(cost.passes), "gradient pass", "gradient passes")
        table.add_row(Text(name, "bold"), Text(brief(method)), times(cost.ratio), Text(span, "dim"), passes)
    return table


def _console_row(entry: Entry, summary: Summary) -> list[Text]:
    from rich.text import Text

    name = entry.suite if entry.method == summary.methods[0] else ""
    error = Text(f"{'* ' if entry.best else ''}{percent(entry.error.mean)}", "bold" if entry.best else "")
    own = bounds(entry.error)
    change, said = Text(f"({own})" if own else "", "dim"), Text("")
    if entry.comparison:
        change, said = _change(entry.comparison), _verdict(entry.comparison)
    return [Text(name, "bold"), Text(brief(entry.method)), error, change, said]


def _change(comparison: Comparison) -> Text:
    from rich.text import Text

    difference = comparison.paired.difference
    span = signed_bounds(difference)
    return Text(points(difference.mean)) + Text(f" ({span})" if span else "", "dim")


def _verdict(comparison: Comparison) -> Text:
    from rich.text import Text

    word = comparison.verdict
    if comparison.seeds == 1:
        return Text("one seed", "dim")
    return Text(f"{WORDS.get(word, word)}, p {p_value(comparison.p_holm)}", COLOURS[word])


def _steady(cost: Cost) -> bool:
    return math.isnan(cost.ratio) or cost.low == cost.high


def _time(cost: Cost) -> str:
    if _steady(cost):
        return times(cost.ratio)
    return f"{times(cost.ratio)} ({times(cost.low)} to {times(cost.high)})"


def _passes(cost: Cost) -> str:
    return NONE if math.isnan(cost.passes) else f"{cost.passes:g}"


def markdown_table(summary: Summary) -> str:
    """Lay the run out as a Markdown table: methods down, suites and costs across.

    Args:
        summary: What to show.

    Returns:
        Lines that end in a newline; text from the run is escaped.
    """
    header = ["method", *(f"{suite}, %" for suite in summary.suites), "time per step", "gradient passes"]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for method in summary.methods:
        cells = [_markdown_cell(summary.table[method, suite]) for suite in summary.suites]
        cost = summary.costs[method]
        rows.append([escape(method), *cells, _time(cost), _passes(cost)])
    rows[0] = [escape(name) for name in header]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _markdown_cell(entry: Entry) -> str:
    error = f"**{percent(entry.error.mean)}**" if entry.best else percent(entry.error.mean)
    lines = [f"{error} ({bounds(entry.error)})" if bounds(entry.error) else error]
    if entry.comparison:
        change, span = entry.comparison.paired.difference, signed_bounds(entry.comparison.paired.difference)
        lines.append(f"{points(change.mean)} ({span})" if span else points(change.mean))
        lines.append(entry.comparison.verdict)
    return "<br>".join(lines)


def escape(text: str) -> str:
    r"""Keep text from the run from being read as Markdown or HTML.

    Args:
        text: Any text.

    Returns:
        One line that is shown as it stands.

    >>> print(escape("a|b <i>"))
    a\|b &lt;i&gt;
    """
    for character, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, shown)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in " ".join(text.split()))
