"""`resolute report`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated

import typer

from resolute.cli.flags import takes
from resolute.errors import InputError


@takes()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of compare, tune, evaluate or curvature.")],
) -> None:
    """Rebuild the report of a run folder from its other files alone, and show it."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}. Give one that `resolute` wrote, with --out or below runs/.")
    holds = {path.name for path in folder.iterdir()}
    if holds & {"survey.json", "curvature.json"}:
        from resolute.curvature.report import console_curvature, write_curvature
        from resolute.report.page import show

        path, curvature = write_curvature(folder)
        show(console_curvature(curvature), path)
    elif "evaluation.json" in holds or ("results.csv" in holds and "recipe.json" not in holds):
        from resolute.report.evaluation import console_evaluation, write_evaluation
        from resolute.report.page import show

        path, evaluation = write_evaluation(folder)
        show(console_evaluation(evaluation), path)
    elif "results.json" in holds:
        from resolute.report.page import console_results, show

        show(console_results(folder / "results.json"))
    else:
        from resolute.report.page import console_summary, show, write_report

        path, summary = write_report(folder)
        show(console_summary(summary), path)
        if "tuned.md" in holds:
            show([], folder / "tuned.md", "tuning")
