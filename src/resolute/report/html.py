"""Write report.html and report.md from a run directory's files, and from nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.records import write_atomic
from resolute.report import page, svg
from resolute.report.figures import colour_of, draw_curves, draw_headline, draw_seeds, draw_severities
from resolute.report.made import facts
from resolute.report.panel import mark
from resolute.report.run import load_run
from resolute.report.summary import summarise
from resolute.report.tables import escape, markdown_table

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.report.run import Run
    from resolute.report.summary import Summary


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
    return page.render(
        "run.html",
        run=run,
        summary=summary,
        colours={method: svg.VARIABLES[mark(colour_of(run, method))] for method in run.methods},
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
