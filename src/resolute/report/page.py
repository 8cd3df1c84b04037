"""The report of a comparison: report.html, report.md and a terminal's table; and what all reports are written with."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from resolute.errors import visible
from resolute.progress import say
from resolute.report import figures, numbers
from resolute.report.comparison import covered, how_tested, leading, summarise
from resolute.report.figures import Curve, draw_differences, draw_pairs, draw_severities, mark
from resolute.report.numbers import NONE, bounds, brief, count, estimate, number, p_value, percent, points, severity
from resolute.report.run import COUNTS_ALONE, load_run, run_facts
from resolute.run_folder import read_json, write_atomic
from resolute.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from resolute.report.comparison import Entry, Summary
    from resolute.report.figures import Picture
    from resolute.report.run import Run
    from resolute.run_folder import Key

_Built = TypeVar("_Built")


class Written(NamedTuple, Generic[_Built]):
    """A report that was written: where, and what it says."""

    path: Path
    built: _Built


TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Fill a template."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: visible(value) if type(value) is str else value,  # Markup is whole
    )  # fmt: skip
    names = ("bounds", "brief", "count", "number", "p_value", "percent", "severity", "significant")
    environment.filters |= {name: getattr(numbers, name) for name in names}
    environment.filters |= {
        "change": lambda value: typeset(numbers.change(value)),
        "points": lambda value: typeset(points(value)),
        "point_bounds": lambda interval: typeset(bounds(interval, points)),
        "typeset": typeset,
    }
    return environment.get_template(template).render(**values)


def typeset(text: str) -> str:
    """Set minus signs, and keep signs and their numbers on one line."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<] )|(?<=\bp [=<]) ", "\N{NO-BREAK SPACE}", text)


_MOST_ROWS = 60


def console_results(path: Path) -> Iterator[RenderableType]:
    """Lay out what an experiment's script has written: its settings and its tables, but for long lists of numbers."""
    found = read_json(path, {str: Any})
    settings = ", ".join(f"{name} {value}" for name, value in numbers.flat(found.get("settings") or {}))
    yield f"{path} holds the results of a script of experiments/. Its settings: {settings or 'none'}."
    for name, rows in found.items():
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            continue
        shown = [{key: text for key, value in row.items() if (text := _cell(value))} for row in rows[:_MOST_ROWS]]
        table = terminal_table(dict.fromkeys(dict.fromkeys(key for row in shown for key in row), "left"))
        for row in shown:
            table.add_row(*(row.get(str(column.header), "") for column in table.columns))
        more = f", the first {_MOST_ROWS} of {len(rows)}" if len(rows) > _MOST_ROWS else ""
        yield ""
        yield f"{name}{more}:"
        yield table


def _cell(value: Any) -> str:
    """A value, or an estimate with its bounds; nothing of what does not fit in a cell."""
    if isinstance(value, float):
        return severity(value)
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, (int, float)) for v in value):
        return estimate(Interval(*value), severity)
    return "" if isinstance(value, (list, dict)) else str(value)


def escape(text: str) -> str:
    r"""Keep text from the run from being read as Markdown or HTML."""
    for character, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, shown)
    return "".join(f"\\{c}" if c in "\\`*_[]|#~" else c for c in visible(text))


def markdown_rows(rows: Iterable[Sequence[str]], words: Sequence[str]) -> str:
    """Lay out a table of Markdown; the first row is its head, of which ``words`` stand to the left."""
    head, *body = rows
    lines = [head, ["---" if name in words else "---:" for name in head], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def terminal_table(columns: Mapping[str, str], caption: str = "") -> Table:
    """Start a table for a terminal, from the columns' names and where they stand: left or right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    class Shown(Table):
        """Its cells say what they say, and do nothing to the terminal."""

        def add_row(self, *cells: Any, style: Any = None, end_section: bool = False) -> None:
            texts = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
            shown = [Text(visible(text.plain), text.style) for text in texts]
            super().add_row(*shown, style=style, end_section=end_section)

    said = "\n".join(map(visible, caption.split("\n")))
    table = Shown(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=Text(said, "dim") if caption else None,
        caption_justify="left", show_header=any(name.strip() for name in columns),
    )  # fmt: skip
    for name, side in columns.items():
        justify: Any = side
        table.add_column(Text(visible(name.strip())), justify=justify, overflow="fold")
    return table


def show(parts: Iterable[RenderableType], path: Path | None = None, name: str = "report") -> None:
    """Print what a report says, and where it is; text is printed as it stands, on lines of any length."""
    from rich.console import Console
    from rich.text import Text

    for part in parts:
        if isinstance(part, str):
            say(part)
            continue
        if isinstance(part, Text):
            part.plain = visible(part.plain)
        Console().print(part)
    if path is not None:
        say(f"{name}: {path}")


VERDICT_COLOURS = {"better": "green", "worse": "red", "no difference seen": "dim"}
SHORT_VERDICTS = {"no difference seen": "none seen"}
"""Where there is little room."""


def verdict_text(word: str, p: float = math.nan) -> Text:
    """Write a verdict for a terminal."""
    from rich.text import Text

    after = "" if math.isnan(p) else f", p {p_value(p)}"
    return Text(f"{SHORT_VERDICTS.get(word, word)}{after}", VERDICT_COLOURS[word])


def console_summary(summary: Summary) -> Iterator[RenderableType]:
    """Lay a comparison out for a terminal: the answer, the table, what the table lacks."""
    yield from (summary.sentence, *summary.lines)
    yield console_table(summary)
    yield from (f"No cost is given for {name}: {cost.doubt}." for name, cost in summary.costs.items() if cost.doubt)
    if summary.run.missing:
        yield summary.limits[0]
    if not summary.run.has_answers:
        yield COUNTS_ALONE


def console_table(summary: Summary) -> Table:
    """Lay the run out for a terminal of 80 columns: a block for each suite, a line for each method, costs below."""
    from rich.text import Text

    run = summary.run
    cover = "new seeds and new images" if run.has_answers else "new seeds on these images"
    caption = f"difference: interval and p for {cover}, Holm-corrected; {run.baseline}: 95 % interval of its error"
    if any(entry.best for entry in summary.table.values()):
        caption = f"* lowest, and significantly different from every other method\n{caption}"
    columns = {"": "left", "method": "left", "error, %": "right", f"difference to {run.baseline}, points": "right"}
    table = terminal_table(columns | {"verdict": "left"}, caption)
    for suite in run.suites:
        for method in run.methods:
            entry, own = summary.table[method, suite], suite if method == run.methods[0] else ""
            table.add_row(Text(own, "bold"), *_console_row(entry), end_section=method == run.methods[-1])
    for method in run.methods if run.steps else ():
        cost = summary.costs[method]
        name = Text("step time" if method == run.methods[0] else "", "bold")
        span = Text("" if cost.steady else f"({bounds(cost.ratio, number)})", "dim")
        passes = "" if math.isnan(cost.passes) else count(round(cost.passes), "gradient pass", "gradient passes")
        table.add_row(name, Text(brief(method)), number(cost.ratio.mean), span, passes)
    return table


def _console_row(entry: Entry) -> list[Text]:
    from rich.text import Text

    error = Text(f"{'* ' if entry.best else ''}{percent(entry.error.mean)}", "bold" if entry.best else "")
    name, found = Text(brief(entry.method)), entry.comparison
    if found is None:
        own = bounds(entry.error)
        return [name, error, Text(f"({own})" if own else "", "dim"), Text("")]
    told = found.found
    said = Text("one seed", "dim") if found.seeds == 1 else verdict_text(told.verdict, told.p_holm)
    return [name, error, Text(estimate(told.difference, points)), said]


def markdown_table(summary: Summary) -> str:
    """Lay the run out as a Markdown table: methods down, suites and costs across."""
    run = summary.run
    rows = [["method", *(escape(f"{suite}, %") for suite in run.suites), "time per step", "gradient passes"]]
    for method in run.methods:
        cost = summary.costs[method]
        time = number(cost.ratio.mean) if cost.steady else estimate(cost.ratio, number)
        passes = NONE if math.isnan(cost.passes) else f"{cost.passes:g}"
        rows.append([
            escape(method), *(_markdown_cell(summary.table[method, suite]) for suite in run.suites), time, passes,
        ])  # fmt: skip
    return markdown_rows(rows, ("method",))


def _markdown_cell(entry: Entry) -> str:
    mean, own = percent(entry.error.mean), bounds(entry.error)
    lines = [(f"**{mean}**" if entry.best else mean) + (f" ({own})" if own else "")]
    if entry.comparison:
        lines += [estimate(entry.comparison.found.difference, points), entry.comparison.word]
    return "<br>".join(lines)


def write_report(folder: Path) -> Written[Summary]:
    """Rebuild ``report.html`` and ``report.md`` of a comparison from its other files.

    The same files give the same bytes. A run that is not finished is reported as far as it is, with what is missing.

    Args:
        folder: The run folder.

    Returns:
        The path of ``report.html``, and what it says.

    Raises:
        InputError: If the folder is no run folder, no cell is finished, files are damaged or contradict each other, or
            the report cannot be written.

    Example:
        >>> import tempfile
        >>> from resolute.run_folder import Record, write_json, write_records
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_json(folder / "recipe.json", {"methods": ["base"], "seeds": [0]})
        >>> write_json(folder / "environment.json", {})
        >>> row = Record("digits", "lenet", "base", 0, "clean", "clean", 0.0, correct=871, n=898)
        >>> write_records(folder / "records.jsonl", [row])
        >>> write_report(folder).built.sentence
        'base has 3.01 % errors on clean images; there is nothing to compare it with.'
    """
    summary = summarise(load_run(folder))
    write_atomic(folder / "report.md", render_markdown(summary))
    write_atomic(folder / "report.html", render_comparison(summary))
    return Written(folder / "report.html", summary)


def render_comparison(summary: Summary) -> str:
    """Write the report as one HTML page that needs nothing else: no script, no font, no request."""
    run, tables = summary.run, {"suites": summary.table.values(), "severities": summary.details}
    return render(
        "run.html", run=run, summary=summary, headline=draw_headline(summary), seeds=draw_seeds(run),
        colours={method: figures.VARIABLES[mark(colour_of(run, method))] for method in run.methods},
        severities=draw_severities(errors_by_shift(summary)), curves=draw_training(run), facts=run_facts(run),
        counts_alone=COUNTS_ALONE, how_tested={name: _how_tested(summary, entries) for name, entries in tables.items()},
    )  # fmt: skip


def _how_tested(summary: Summary, entries: Iterable[Entry]) -> str:
    found = [own.found for entry in entries if (own := entry.comparison) and own.seeds > 1]
    return how_tested(covered(summary.run), found)


def render_markdown(summary: Summary) -> str:
    """Write the verdict, the table, its limits and its making as Markdown."""
    limits = "".join(f"- {escape(text)}\n" for text in summary.limits)
    made = "".join(
        f"\n### {title}\n\n" + "".join(f"- {escape(name)}: {escape(value)}\n" for name, value in pairs)
        for title, pairs in run_facts(summary.run).items()
        if pairs
    )
    command = visible(str(summary.run.recipe.get("command") or ""))
    started = f"    {command}" if command else "Started from Python, with resolute.compare and this recipe."
    lines = "".join(f"{escape(text)}\n\n" for text in summary.lines)
    return (
        f"# {escape(summary.sentence)}\n\n{lines}"
        f"{markdown_table(summary)}\n"
        f"Errors in % with 95 % interval over seeds; below them the difference to {escape(summary.run.baseline)} in "
        "points. "
        f"{_how_tested(summary, summary.table.values())} Bold: "
        f"lowest, and significantly different from every other method.\n\n## What this does not show\n\n{limits}\n"
        f"## How it was made\n\n{started}\n{made}"
    )


def colour_of(run: Run, method: str) -> int:
    """Number the methods for their colours and markers."""
    others = [name for name in run.methods if name != run.baseline]
    return 0 if method == run.baseline else 1 + others.index(method)


def draw_headline(summary: Summary) -> Picture | None:
    """Draw the verdict's figure: each method's difference to the baseline with its interval, beside zero."""
    run, suite = summary.run, leading(summary.run.suites)
    pairs = {method: summary.table[method, suite].comparison for method in run.methods}
    found = {method: pair.found.difference for method, pair in pairs.items() if pair and pair.seeds > 1}
    if not found:
        return None
    return draw_differences(
        [(method, colour_of(run, method), Interval(*(100 * each for each in (own.mean, own.low, own.high))))
         for method, own in found.items()],
        name="headline", title=f"Difference to {run.baseline} in the {suite} error",
        note="mean, interval of its verdict", zero=f"as {run.baseline}",
        xlabel="percentage points: fewer errors to the left",
        told="; ".join(f"{method} {estimate(own, points)}" for method, own in found.items()),
    )  # fmt: skip


def errors_by_shift(summary: Summary) -> list[tuple[str, int, Key, Interval]]:
    """List what `draw_severities` draws."""
    shown = (entry for entry in summary.details if entry.seeds)
    return [(entry.method, colour_of(summary.run, entry.method), entry.keys[0], entry.error) for entry in shown]


def draw_seeds(run: Run) -> list[Picture]:
    """Draw each seed's error of baseline and method, joined: a panel for each suite."""
    pictures = []
    for position, suite in enumerate(run.suites):
        keys, groups = [key for key in run.keys if key[0] == suite], {}
        for method in run.methods:
            shared = [seed for seed in run.finished(method) if (run.baseline, seed) in run.cells]
            if method != run.baseline and shared:
                both = (100 * run.errors(name, shared, keys) for name in (run.baseline, method))
                groups[method] = (colour_of(run, method), list(zip(shared, *both, strict=True)))
        if groups:
            pictures.append(draw_pairs(groups, run.baseline, f"seeds-{position}", suite))
    return pictures


TRAINING = {"loss": "Training loss", "train_error": "Training error", "validation_error": "Validation error"}


def draw_training(run: Run) -> list[Picture]:
    """Draw loss and errors against the epoch: thin lines the seeds, a thick line their mean."""
    pictures = []
    for column, title in TRAINING.items():
        scale, note = (1, "as each method minimises it") if column == "loss" else (100, "error, %")
        curves = [curve for method in run.methods if (curve := _training_curve(run, method, column, scale))]
        if curves:
            with figures.style():
                figure, axes = figures.plot(curves, "epoch", log="y", height=216)
                axes.locator_params(axis="x", integer=True, nbins=6)
                told = "; ".join(curve.told for curve in curves)
                pictures.append(figures.picture(figure, f"curve-{column.replace('_', '-')}", title, note, told))
    return pictures


def _training_curve(run: Run, method: str, column: str, scale: float) -> Curve | None:
    logged = [scale * run.cells[method, seed].curves[column] for seed in run.finished(method)]
    lines = np.array([values for values in logged if len(values) == len(logged[0])])
    seen = np.flatnonzero(np.isfinite(lines).all(axis=0)) if lines.size else np.empty(0, dtype=int)
    if not seen.size:
        return None
    x, lines = (seen + 1).tolist(), lines[:, seen]
    mean = lines.mean(axis=0).tolist()
    return Curve(method, colour_of(run, method), x, mean, each=lines.tolist(), marked=False)
