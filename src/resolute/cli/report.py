"""`resolute report`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated

import typer
from rich.console import Console


def report(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory of compare.")]) -> None:
    """Rebuild report.html and report.md of a run from its files alone."""
    from resolute.report import console_table, load_run, summarise, write_report

    path = write_report(folder)
    console = Console()
    console.print(console_table(summarise(load_run(folder))))
    console.print(f"report: {path}", soft_wrap=True, highlight=False)
