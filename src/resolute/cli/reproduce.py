"""`resolute reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resolute.cli.compare import command_line
from resolute.cli.flags import Compile, DataDir, Device, Precision
from resolute.errors import InputError

if TYPE_CHECKING:
    from resolute.paper.tables import Row

WIDTH = 110
"""Columns of the ledger where the output is no terminal."""


PRINTED = {"clean": "top-1", "top5": "top-5"}
"""What the paper calls the suites of published weights."""


def reproduce(
    table: Annotated[int | None, typer.Option(help="Only this table of the paper, 1 to 5.")] = None,
    row: Annotated[str | None, typer.Option(help="Run this row: its name as printed, or its id.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="smoke: a few steps, no measurement; reduced: a tenth as long; full (default).")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Judge published weights instead of training; for base rows.")
    ] = False,
    data_dir: DataDir = None,
    seeds: Annotated[int | None, typer.Option(help="Number of paired seeds; by default the recipe's.", min=1)] = None,
    device: Device = None,
    precision: Precision = None,
    compile: Compile = None,  # noqa: A002
    out: Annotated[Path, typer.Option(help="Folder of the runs, one below it for each network.")] = Path(
        "runs/reproduce"
    ),
    results: Annotated[
        Path | None, typer.Option(help="Folder of runs to read; by default experiments/results, else what is packaged.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Write the five tables as a page of Markdown.")] = None,
) -> None:
    """Show the paper's 42 rows, claimed beside measured; or run one of them with its base row.

    Without arguments: the ledger. The same command goes on where a killed run stopped.
    """
    from resolute.paper import ledger, page, tables
    from resolute.run_folder import write_atomic

    train = {"device": device, "precision": precision, "compile": compile}
    given = {name: value for name, value in train.items() if value is not None}
    _check(row, pretrained, {"scale": scale, "seeds": seeds, "data-dir": data_dir, **train})
    if row is not None:
        _refuse({"results": results, "write": write}, "shows the ledger: leave it out, or leave --row out.")
        _run(tables.find_row(row, table), scale, pretrained, out, data_dir, seeds, given)
        return
    tables.of_table(table)
    entries = ledger.ledger(ledger.read_pools(ledger.results_folder(results)))
    console = Console()
    if write is not None:
        _refuse({"table": table}, "does not go with --write, which writes all five.")
        write_atomic(write, page.markdown(entries))
        console.print(f"written: {write}", soft_wrap=True, highlight=False)
        return
    if not console.is_terminal:
        console = Console(width=max(console.width, WIDTH))
    shown = [entry for entry in entries if table in (None, entry.row.table)]
    for part in page.console_ledger(shown):
        console.print(part, highlight=False)


def _check(row: str | None, pretrained: bool, flags: dict[str, Any]) -> None:
    """Refuse flags that would be passed over."""
    if row is None:
        _refuse({**flags, "pretrained": pretrained or None}, "is for a run: name its row, --row R-LeNet.")
    if pretrained:
        idle = {name: value for name, value in flags.items() if name not in ("data-dir", "device")}
        _refuse(idle, "is for training, and --pretrained trains nothing: leave it out.")


def _refuse(flags: dict[str, Any], why: str) -> None:
    given = [f"--{name}" for name, value in flags.items() if value is not None]
    if given:
        raise InputError(f"{given[0]} {why}")


def _run(
    row: Row,
    scale: str | None,
    pretrained: bool,
    out: Path,
    data_dir: str | None,
    seeds: int | None,
    train: dict[str, Any],
) -> None:
    from resolute.paper.rows import TRAINED, WEIGHTS
    from resolute.paper.run import evaluate_weights, recipe_of, train_row
    from resolute.report.page import console_table

    console = Console()
    if pretrained or (scale is None and row.id not in TRAINED and row.id in WEIGHTS):
        try:
            folder, found = evaluate_weights(row, out, data_dir=data_dir, device=train.get("device", "auto"))
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped; nothing was kept, the same command begins again.")
            raise typer.Exit(130) from None
        errors = [f"{PRINTED[record.suite]} error {100 * record.error:.2f} %" for record in found]
        console.print(f"{row.name}: {', '.join(errors)} of {found[0].n:,} images")
    else:
        recipe = recipe_of(row, scale or "full", out, seeds=seeds, **train)
        try:
            folder, summary = train_row(recipe, out, data_dir=data_dir, command=command_line())
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped; the same command goes on from here.")
            raise typer.Exit(130) from None
        console.print(console_table(summary))
        console.print(summary.sentence, soft_wrap=True, highlight=False, markup=False)
        if scale == "smoke":
            console.print("A smoke run: everything ran, on a few images; nothing was measured.")
    console.print(f"results: {folder}", soft_wrap=True, highlight=False)
    console.print(f"beside the paper: resolute reproduce --results {out}", soft_wrap=True, highlight=False)
