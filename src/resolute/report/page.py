"""Fill a page of HTML that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.report import figures, numbers
from resolute.report.comparison import summarise
from resolute.report.figures import colour_of, draw_curves, draw_headline, draw_seeds, draw_severities, mark
from resolute.report.numbers import (
    NONE,
    WORDS,
    bounds,
    brief,
    count,
    facts,
    load_run,
    p_value,
    percent,
    points,
    signed_bounds,
    times,
)
from resolute.run_folder import write_atomic

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from resolute.report.comparison import Comparison, Cost, Entry, Summary
    from resolute.report.numbers import Run


TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: Name of a file in the folder `TEMPLATES`.
        **values: What the template names, all of it.

    Returns:
        The page. Text among the values is escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bounds": numbers.bounds,
        "brief": numbers.brief,
        "count": numbers.count,
        "p_value": numbers.p_value,
        "percent": numbers.percent,
        "points": lambda number: typeset(numbers.points(number)),
        "severity": numbers.severity,
        "signed_bounds": lambda interval: typeset(numbers.signed_bounds(interval)),
        "times": numbers.times,
        "typeset": typeset,
    }
    return environment.get_template(template).render(**values)


def typeset(text: str) -> str:
    """Set minus signs, and keep signs and their numbers on one line.

    Args:
        text: Text with hyphens for minus signs.

    Returns:
        The text as it is shown.
    """
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<] )|(?<=\bp [=<]) ", "\N{NO-BREAK SPACE}", text)


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


def write_report(folder: Path) -> Path:
    """Rebuild ``report.html`` and ``report.md`` from the other files of a run directory.

    The same files give the same bytes. A run that is not finished is reported as far as it is, with what is missing.

    Args:
        folder: The run directory.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: If the folder is no run directory, no cell is finished, files contradict each other, or the report
            cannot be written.
    """
    run = load_run(folder)
    summary = summarise(run)
    write_atomic(folder / "report.md", render_markdown(run, summary))
    write_atomic(folder / "report.html", render_html(run, summary))
    return folder / "report.html"


def render_html(run: Run, summary: Summary) -> str:
    """Write the report as one HTML page that needs nothing else: no script, no font, no request.

    Args:
        run: The run.
        summary: Its summary.

    Returns:
        The page. Text from the run is escaped.
    """
    return render(
        "run.html",
        run=run,
        summary=summary,
        colours={method: figures.VARIABLES[mark(colour_of(run, method))] for method in run.methods},
        headline=draw_headline(run, summary),
        severities=draw_severities(run, summary),
        seeds=draw_seeds(run, summary),
        curves=draw_curves(run),
        facts=facts(run),
    )


def render_markdown(run: Run, summary: Summary) -> str:
    """Write the verdict, the table, its limits and its making as Markdown.

    Args:
        run: The run.
        summary: Its summary.

    Returns:
        The page. Text from the run is escaped.
    """
    limits = "".join(f"- {escape(text)}\n" for text in summary.limits)
    made = "".join(
        f"\n### {title}\n\n" + "".join(f"- {escape(name)}: {escape(value)}\n" for name, value in pairs)
        for title, pairs in facts(run).items()
        if pairs
    )
    return (
        f"# {escape(summary.sentence)}\n\n{markdown_table(summary)}\n"
        f"Errors in % with 95 % interval; below them the difference to {escape(summary.baseline)} in percentage "
        "points. Bold: lowest, and different from every other method.\n\n"
        f"## What this does not show\n\n{limits}\n"
        f"## How it was made\n\n{_command(run)}\n{made}"
    )


def _command(run: Run) -> str:
    command = " ".join(str(run.recipe.get("command") or "").split())
    return f"    {command}" if command else "Started from Python, with resolute.compare and this recipe."
