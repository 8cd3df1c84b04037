"""`resolute reproduce`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resolute.cli.flags import command_line, of, settings_for, takes
from resolute.config import TrainConfig
from resolute.errors import InputError
from resolute.experiment.recipe import Recipe
from resolute.progress import say

if TYPE_CHECKING:
    from resolute.paper.tables import Row

TRAIN = ("device", "precision", "compile")
"""Settings of training that a row leaves open."""
_WIDTH = 110
"""Columns of the ledger where the output is no terminal."""
PRINTED = {"clean": "top-1", "top5": "top-5"}
"""What the paper calls the suites of published weights."""


@takes(of(Recipe, "data_dir", unset=True), of(TrainConfig, *TRAIN, unset=True))
def reproduce(
    *,
    table: Annotated[int | None, typer.Option(help="Only this table of the paper, 1 to 5.")] = None,
    row: Annotated[str | None, typer.Option(help="Run this row: its name as printed, or its id.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="smoke: a few steps, no measurement; reduced: a tenth as long; full (default).")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Evaluate published weights instead of training; for base rows.")
    ] = False,
    seeds: Annotated[int | None, typer.Option(help="Number of paired seeds; by default the recipe's.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run folders, one for each network.")] = Path(
        "runs/reproduce"
    ),
    results: Annotated[
        Path | None, typer.Option(help="Folder of runs to read; by default experiments/results, else what is packaged.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Write the five tables as a page of Markdown.")] = None,
    **given: Any,
) -> None:
    """Show the paper's 42 rows, claimed beside measured; or run one of them with its base row.

    Without arguments: the ledger. To continue a run that was stopped, run the same command again.
    """
    for_run = {"scale": scale, "seeds": seeds, **given}
    if row is None:
        _refuse({**for_run, "pretrained": pretrained or None}, "is for a run: name its row, --row R-LeNet.")
        _show(table, results, write)
        return
    _refuse({"results": results, "write": write}, "shows the ledger: leave it out, or leave --row out.")
    if pretrained:
        idle = {name: value for name, value in for_run.items() if name not in ("data_dir", "device")}
        _refuse(idle, "is for training, and --pretrained trains nothing: leave it out.")
    from resolute.paper.rows import TRAINED, WEIGHTS
    from resolute.paper.tables import find_row

    found = find_row(row, table)
    if pretrained or (scale is None and found.id not in TRAINED and found.id in WEIGHTS):
        folder = _evaluate_weights(found, out, given)
    else:
        folder = _train(found, scale or "full", out, seeds, given)
    say(f"results: {folder}")
    say(f"beside the paper: resolute reproduce --results {shlex.quote(str(out))}")


def _show(table: int | None, results: Path | None, write: Path | None) -> None:
    """Show the ledger, or write it."""
    from resolute.paper import ledger, page, tables
    from resolute.run_folder import write_atomic

    tables.of_table(table)
    entries = ledger.ledger(ledger.read_pools(ledger.results_folder(results)))
    console = Console()
    if write is not None:
        _refuse({"table": table}, "does not go with --write, which writes all five.")
        write_atomic(write, page.markdown(entries))
        say(f"written: {write}")
        return
    if not console.is_terminal:
        console = Console(width=max(console.width, _WIDTH))
    shown = [entry for entry in entries if table in (None, entry.row.table)]
    for part in page.console_ledger(shown):
        console.print(part, highlight=False)


def _refuse(flags: dict[str, Any], why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in flags.items() if value is not None]
    if given:
        raise InputError(f"{given[0]} {why}")


def _evaluate_weights(row: Row, out: Path, given: dict[str, Any]) -> Path:
    from resolute.paper.run import evaluate_weights

    data_dir, device = given.get("data_dir"), given.get("device", "auto")
    try:
        folder, found = evaluate_weights(row, out, data_dir=data_dir, device=device)
    except KeyboardInterrupt:
        say("Stopped. Nothing was kept; the same command begins again.", Console(stderr=True))
        raise typer.Exit(130) from None
    errors = [f"{PRINTED[record.suite]} error {100 * record.error:.2f} %" for record in found]
    say(f"{row.name}: {', '.join(errors)} of {found[0].n:,} images")
    return folder


def _train(row: Row, scale: str, out: Path, seeds: int | None, given: dict[str, Any]) -> Path:
    from resolute.paper.run import recipe_of, train_row
    from resolute.report.page import console_summary, show

    recipe = recipe_of(row, scale, out, seeds=seeds, **settings_for(TrainConfig, given))
    folder, summary = train_row(recipe, out, data_dir=given.get("data_dir"), command=command_line())
    smoke = "A smoke run: everything ran, on a few images; nothing was measured."
    show([*console_summary(summary), *([smoke] if scale == "smoke" else [])])
    return folder
