"""Go through the cells of a comparison until all are finished, in this process or in several.

A cell is one training run and its evaluation. It is finished when its records are on disk, which happens last; a
finished cell is never run again and an unfinished one continues from its checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.data.dataset import understood
from resolute.errors import InputError
from resolute.experiment.cell import Splits, check_recipe, is_finished, load_splits, run_alone, run_identity, time_steps
from resolute.experiment.recipe import to_json
from resolute.experiment.workers import check_place, run_cells, run_in_processes, run_on_ray
from resolute.methods import find_method
from resolute.progress import progress, say
from resolute.report.page import write_report
from resolute.run_folder import GROWS, RunFolder, cell_identity, cell_name, digest, read_records, write_records
from resolute.training.distributed import check_alone, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from resolute.experiment.recipe import Recipe
    from resolute.report.comparison import Summary
    from resolute.run_folder import Record


_Tell = tuple["Callable[[str, int, float], None]", "Callable[[str, int], None]"]

_WAITS_PER_GATHERING = 20
"""Gathering reads the records of all finished cells: of a thousand it takes seconds, and must not after each."""


def compare(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    on: str = "local",
    command: str = "",
    console: Console | None = None,
) -> Summary:
    """Train and evaluate every cell of a recipe that is not finished, then write the report.

    Args:
        recipe: What to compare.
        out: The run folder; made if missing; by default ``runs/NAME-HASH``, which is the same for the same recipe,
            images and versions. Kill the run at any moment: the same call continues it, and its records are those of
            an undisturbed run. So are those of a call with more methods or seeds than the run has.
        jobs: Processes that share the cells, each with its share of the cores; above 1 a script must guard its call by
            ``if __name__ == "__main__"``. Other processes, started by hand, may work in the same directory.
        on: Where the cells run: ``"local"``, in processes of this machine; ``"ray"``, on a cluster of Ray that is this
            machine; ``"ray://HOST:PORT"``, on one that is running, whose machines share ``out``.
        command: The command line to quote in the report as the way to run it again.
        console: Where progress is shown; standard error by default.

    Returns:
        Errors, differences, verdicts and costs, as the report shows them. A cell whose training diverged is missing
        there; all others are run.

    Raises:
        DivergedError: If the baseline's training diverges, without which nothing can be compared.
        InputError: If the data cannot be had, the folder cannot be written or holds another run, or a file of it is
            damaged.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> from resolute.experiment.recipe import digits
        >>> short = replace(digits(), methods=("base", "r"), seeds=(0,), suites=("clean",))
        >>> short = replace(short, train=replace(short.train, epochs=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     summary = compare(short, folder)
        >>> list(summary.costs)
        ['base', 'r']
    """
    return run_comparison(recipe, out, jobs=jobs, on=on, command=command, console=console)[1]


def run_comparison(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    jobs: int = 1,
    on: str = "local",
    command: str = "",
    console: Console | None = None,
) -> tuple[Path, Summary]:
    """Do what `compare` does, and tell the folder too."""
    check_place(on)
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it is a number of processes, 1 or more.")
    splits = load_splits(recipe)
    recipe = recipe.resolved(splits.test.info.augment, splits.test.info.radius)
    check_recipe(recipe, splits)
    out = Path(out) if out is not None else comparison_folder(recipe, splits)
    _folder(out).claim(run_identity(recipe, splits), _beside(recipe, splits, command))
    _tell_understood(splits, console)
    fill(recipe, splits, out, jobs=jobs, on=on, console=console)
    if on == "local":
        time_steps(recipe, splits, out)
    return out, write_report(out).built


def fill(
    recipe: Recipe, splits: Splits, out: Path, *, jobs: int = 1, on: str = "local", console: Console | None = None
) -> None:
    """Train and evaluate every cell that is not finished."""
    identity = run_identity(recipe, splits)
    cells = {cell: out / "cells" / cell_name(*cell) for cell in recipe.cells}
    open_cells = [cell for cell, own in cells.items() if not is_finished(own, cell_identity(identity, *cell))]
    with _progress(recipe, open_cells, console) as (tell, finish):
        due = 0.0

        def finished(method: str, seed: int) -> None:
            nonlocal due
            if (begun := time.monotonic()) >= due:
                _gather(recipe, out)
                due = time.monotonic() + _WAITS_PER_GATHERING * (time.monotonic() - begun)
            finish(method, seed)

        if on != "local":
            run_on_ray(recipe, out, on, jobs, finished)
        elif min(jobs, len(open_cells)) <= 1:
            run_cells(recipe, splits, out, tell, finished)
        else:
            run_in_processes(min(jobs, len(open_cells)), recipe, out, tell, finished)
    _gather(recipe, out)


def _tell_understood(splits: Splits, console: Console | None) -> None:
    from rich.console import Console

    console = console or Console(stderr=True)
    say(understood(splits.train, splits.validation, splits.test), console)
    if splits.weights:
        say(f"all networks start from {splits.weights.place} (SHA-256 {splits.weights.sha256[:8]}...)", console)


@contextlib.contextmanager
def _progress(recipe: Recipe, open_cells: list[tuple[str, int]], console: Console | None) -> Iterator[_Tell]:
    """Count the epochs of the grid, weighted by what a method's epoch costs."""
    epochs, passes = recipe.train.epochs, {name: find_method(name).passes for name in recipe.methods}
    finished = [cell for cell in recipe.cells if cell not in open_cells]
    done: dict[tuple[str, int], float] = {(method, seed): epochs * passes[method] for method, seed in finished}
    total = epochs * sum(passes[method] for method, _ in recipe.cells)
    with progress(total, console, found=sum(done.values())) as meter:

        def tell(method: str, seed: int, epoch: float) -> None:
            if (method, seed) not in done:
                meter.found += passes[method] * epoch  # of a cell that is continued; of a new one, its first step
            done[method, seed] = passes[method] * epoch
            meter.tell(sum(done.values()), f"{method} seed {seed}, epoch {min(int(epoch) + 1, epochs)}/{epochs}")

        def finish(method: str, seed: int) -> None:
            done[method, seed] = passes[method] * epochs
            meter.tell(sum(done.values()), f"{method} seed {seed} done", part=(method, seed) in open_cells)

        yield tell, finish


def _folder(out: Path) -> RunFolder:
    return RunFolder(out, "recipe.json", "comparison", GROWS)


def _beside(recipe: Recipe, splits: Splits, command: str) -> dict[str, Any]:
    """Give what recipe.json says for readers, beside the identity."""
    start = {"pretrained_sha256": splits.weights.sha256} if splits.weights else {}
    return to_json(recipe) | start | {"data_info": dataclasses.asdict(splits.test.info), "command": command}


def settle(recipe: Recipe, out: Path, splits: Splits, command: str) -> None:
    """Say that a folder holds the run of a recipe, whatever it said before."""
    _folder(out).write(run_identity(recipe, splits), _beside(recipe, splits, command))


def train_one(
    recipe: Recipe, out: str | Path | None = None, *, command: str = "", console: Console | None = None
) -> tuple[Path, list[Record]]:
    """Train one network and evaluate it; over many processes and machines where torchrun started them."""
    if len(recipe.cells) != 1:
        raise InputError(f"{len(recipe.cells)} networks were asked for; compare trains several, and train one.")
    check_alone(recipe.train)
    splits = load_splits(recipe)
    recipe = recipe.resolved(splits.test.info.augment, splits.test.info.radius)
    check_recipe(recipe, splits)
    out = Path(out) if out is not None else comparison_folder(recipe, splits)
    if rank(recipe.train):
        run_alone(recipe, splits, out)
        return out, []
    identity = run_identity(recipe, splits)
    _folder(out).claim(identity, _beside(recipe, splits, command))
    _tell_understood(splits, console)
    open_cells = [] if is_finished(out, cell_identity(identity, *recipe.cells[0])) else recipe.cells
    with _progress(recipe, open_cells, console) as (tell, finish):
        run_alone(recipe, splits, out, tell)
        finish(*recipe.cells[0])
    return out, read_records(out / "records.jsonl")


def comparison_folder(recipe: Recipe, splits: Splits) -> Path:
    """Name the run folder of a recipe on these images: the same work is continued there, other work gets another."""
    return Path("runs") / f"{recipe.name}-{digest(run_identity(recipe, splits))[:8]}"


def _gather(recipe: Recipe, out: Path) -> None:
    """Rebuild the run's records from its finished cells, in the order of the grid."""
    files = [out / "cells" / cell_name(method, seed) / "records.jsonl" for method, seed in recipe.cells]
    write_records(out / "records.jsonl", [row for file in files if file.exists() for row in read_records(file)])
