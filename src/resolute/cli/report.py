"""`resolute report`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated

import typer
from rich.console import Console


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of compare, evaluate or curvature.")],
) -> None:
    """Rebuild the report of a comparison, an evaluation or a survey of curvature from its other files alone."""
    console = Console()
    if (folder / "evaluation.json").exists():
        from resolute.report.evaluation import console_judged, load_judged, write_judged

        path = write_judged(folder)
        console.print(*console_judged(load_judged(folder)), sep="\n")
    elif (folder / "survey.json").exists():
        from resolute.curvature.report import console_curvature, write_curvature

        console.print(*console_curvature(write_curvature(folder)), sep="\n")
        path = folder / "report.html"
    else:
        from resolute.report.comparison import summarise
        from resolute.report.numbers import load_run
        from resolute.report.page import console_table, write_report

        path = write_report(folder)
        summary = summarise(load_run(folder))
        console.print(console_table(summary))
        console.print(summary.sentence, soft_wrap=True, highlight=False, markup=False)
    console.print(f"report: {path}", soft_wrap=True, highlight=False)
