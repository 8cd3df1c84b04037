"""Go through the cells of a comparison until all are finished, in this process or in several.

A cell is one training run and its evaluation. It is finished when its records are on disk, which happens last; a
finished cell is never run again and an unfinished one goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.errors import InputError, differences
from resolute.experiment.cell import Splits, check_recipe, is_finished, load_splits, run_alone
from resolute.experiment.recipe import completed, identity, set_name, to_json
from resolute.experiment.workers import check_place, run_cells, run_in_processes, run_on_ray
from resolute.methods import find_method
from resolute.progress import progress
from resolute.report.page import write_report
from resolute.run_folder import cell_name, environment, read_json, read_records, write_json, write_records
from resolute.training.distributed import check_alone, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from resolute.data.dataset import Images
    from resolute.experiment.recipe import Recipe
    from resolute.report.comparison import Summary
    from resolute.run_folder import Record


_Tell = tuple["Callable[[str, int, float], None]", "Callable[[str, int], None]"]

_WAITS_PER_GATHERING = 20
"""Gathering reads the records of all finished cells: of a thousand it takes seconds, and must not after each."""


def compare(
    recipe: Recipe,
    out: str | Path,
    *,
    jobs: int = 1,
    on: str = "local",
    command: str = "",
    console: Console | None = None,
) -> Summary:
    """Train and judge every cell of a recipe that has no finished record, then write the report.

    Args:
        recipe: What to compare.
        out: The run directory; made if missing. Kill the run at any moment: the same call goes on, and its records
            are those of an undisturbed run. So are those of a call with more methods or seeds than the run has.
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
        InputError: If the data cannot be had, or the folder cannot be written or holds another run.
    """
    out = Path(out)
    check_place(on)
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; it is a number of processes, 1 or more.")
    splits = load_splits(recipe)
    recipe = recipe.resolved(splits.test.info.augment, splits.test.info.radius)
    check_recipe(recipe, splits)
    _claim(out, recipe, splits.test, command)
    fill(recipe, splits, out, jobs=jobs, on=on, console=console)
    return write_report(out).built


def fill(
    recipe: Recipe, splits: Splits, out: Path, *, jobs: int = 1, on: str = "local", console: Console | None = None
) -> None:
    """Train and judge every cell that is not finished."""
    open_cells = [cell for cell in recipe.cells if not is_finished(out, *cell)]
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
                meter.found += passes[method] * epoch  # of a cell that goes on; of a new one, its first step
            done[method, seed] = passes[method] * epoch
            meter.tell(sum(done.values()), f"{method} seed {seed}, epoch {min(int(epoch) + 1, epochs)}/{epochs}")

        def finish(method: str, seed: int) -> None:
            done[method, seed] = passes[method] * epochs
            meter.tell(sum(done.values()), f"{method} seed {seed} done", part=(method, seed) in open_cells)

        yield tell, finish


def settle(recipe: Recipe, out: Path, images: Images, command: str) -> None:
    """Say that a folder holds the run of a recipe, whatever it said before."""
    beside = {"data_info": dataclasses.asdict(images.info), "command": command}
    write_json(out / "recipe.json", to_json(recipe) | beside)


def train_one(recipe: Recipe, out: str | Path, *, command: str = "", console: Console | None = None) -> list[Record]:
    """Train one network by one method and judge it; over many processes and machines where torchrun started them."""
    out = Path(out)
    if len(recipe.cells) != 1:
        raise InputError(f"{len(recipe.cells)} networks were asked for; compare trains several, and train one.")
    check_alone(recipe.train)
    splits = load_splits(recipe)
    recipe = recipe.resolved(splits.test.info.augment, splits.test.info.radius)
    check_recipe(recipe, splits)
    if rank(recipe.train):
        run_alone(recipe, splits, out)
        return []
    _claim(out, recipe, splits.test, command)
    open_cells = [] if (out / "records.jsonl").exists() else recipe.cells
    with _progress(recipe, open_cells, console) as (tell, finish):
        run_alone(recipe, splits, out, tell)
        finish(*recipe.cells[0])
    return read_records(out / "records.jsonl")


def default_folder(recipe: Recipe) -> Path:
    """Name the run directory of a recipe: the same recipe goes on where it stopped, another gets another folder."""
    digest = hashlib.sha256(json.dumps(identity(recipe)).encode()).hexdigest()
    return Path("runs") / f"{recipe.name}-{digest[:8]}"


def _claim(out: Path, recipe: Recipe, images: Images, command: str) -> None:
    path = out / "recipe.json"
    if path.exists():
        stored = read_json(path)
        ours, theirs = identity(recipe), completed(stored if isinstance(stored, dict) else {})
        theirs["data"] = set_name(str(theirs.get("data")))
        grown = _grown(ours, theirs)
        _check_same(out, ours, theirs | grown)
        found = {key: value for key, value in dataclasses.asdict(images.info).items() if key != "name"}
        _check_data(out, json.loads(json.dumps(found)), stored.get("data_info", {}))
        if grown:
            settle(recipe, out, images, command)
    else:
        # A run that was killed at its first write has left a hidden file.
        if out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
            raise InputError(f"{out} is not empty and holds no run. Choose another folder with --out.")
        settle(recipe, out, images, command)
    if not (out / "environment.json").exists():
        write_json(out / "environment.json", environment())


def _grown(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Tell what was added of the two that no finished cell depends on; nothing of one where something is gone."""
    return {
        name: ours[name]
        for name in ("methods", "seeds")
        if isinstance(theirs.get(name), list) and ours[name] != theirs[name] and set(ours[name]) >= set(theirs[name])
    }


def _check_same(out: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    if told := differences(theirs, ours):
        raise InputError(
            f"{out} holds a run of another recipe: {told}. Methods and seeds can be added to a run, nothing else "
            "changed. Choose another folder with --out."
        )


def _check_data(out: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse to mix networks: a path or a data folder may have come to hold other classes or images of another size."""
    if told := differences(theirs, ours):
        raise InputError(
            f"{out} holds networks of other data: {told}. Give the data that they were trained on, or choose another "
            "folder with --out."
        )


def _gather(recipe: Recipe, out: Path) -> None:
    """Rebuild the run's records from its finished cells, in the order of the grid."""
    files = [out / "cells" / cell_name(method, seed) / "records.jsonl" for method, seed in recipe.cells]
    write_records(out / "records.jsonl", [row for file in files if file.exists() for row in read_records(file)])
