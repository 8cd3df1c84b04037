"""The resumable grid: every method with every seed, the same data, then one report.

A cell is one training run and its evaluation. It is finished when its records are on disk, which happens last; a
finished cell is never run again and an unfinished one goes on from its checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from resolute import counter, methods, models, report, suites
from resolute.data import Images, load
from resolute.errors import InputError
from resolute.evaluation import measure, records
from resolute.models import checkpoint
from resolute.places import sites
from resolute.recipes import Recipe, to_json
from resolute.records import (
    cell_name,
    environment,
    read_json,
    read_records,
    write_bits,
    write_json,
    write_records,
)
from resolute.surgery import is_robust
from resolute.training import train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from resolute.training import Epoch


def compare(recipe: Recipe, out: str | Path, *, command: str = "", console: Console | None = None) -> report.Summary:
    """Train and judge every cell of a recipe that has no finished record, then write the report.

    Args:
        recipe: What to compare.
        out: The run directory; made if missing. Kill the run at any moment: the same call goes on, and its records
            are those of an undisturbed run.
        command: The command line to quote in the report as the way to run it again.
        console: Where progress is shown; standard error by default.

    Returns:
        Errors, differences, verdicts and costs, as the report shows them.

    Raises:
        InputError: If the data cannot be had, the folder cannot be written or holds another run, or training diverges.
    """
    out = Path(out)
    splits = _load(recipe)
    recipe = recipe.resolved(splits.test.info)
    _check(recipe, splits)
    _claim(out, recipe, splits.test, command)
    with _progress(recipe, console) as (tell, finish):
        for method, seed in recipe.cells:
            cell = out / "cells" / cell_name(method, seed)
            if not (cell / "records.jsonl").exists():
                _run_cell(recipe, splits, method, seed, cell, tell)
            (cell / "checkpoint.pt").unlink(missing_ok=True)
            _gather(recipe, out)
            finish(method, seed)
    report.write_report(out)
    return report.summarise(report.load_run(out))


def default_folder(recipe: Recipe) -> Path:
    """Name the run directory of a recipe: the same recipe goes on where it stopped, another gets another folder.

    Args:
        recipe: The recipe.

    Returns:
        ``runs/NAME-HASH`` below the current folder.
    """
    digest = hashlib.sha256(json.dumps(_identity(recipe)).encode()).hexdigest()
    return Path("runs") / f"{recipe.name}-{digest[:8]}"


@dataclass(frozen=True, slots=True, eq=False)
class _Splits:
    train: Images
    validation: Images | None
    test: Images


def _load(recipe: Recipe) -> _Splits:
    def part(split: str) -> Images:
        return load(recipe.data, recipe.data_dir, split, recipe.size)

    validation = part("validation") if recipe.hold_out else None
    test = part("test") if recipe.split == "test" else part("validation")
    return _Splits(part("train" if recipe.hold_out else "train+validation"), validation, test)


def _check(recipe: Recipe, splits: _Splits) -> None:
    """Refuse a name or a place of the noise now, not when the folder already holds a recipe that cannot be run."""
    suites.find(recipe.suites, splits.test.info)
    for method in methods.find_all(recipe.methods):
        method.prepare(_build(recipe, splits.train, seed=0), recipe.settings)


def _identity(recipe: Recipe) -> dict[str, Any]:
    """Everything that the figures depend on: not where the data lies."""
    stored: dict[str, Any] = json.loads(json.dumps(to_json(recipe)))
    del stored["data_dir"]
    return stored


def _claim(out: Path, recipe: Recipe, images: Images, command: str) -> None:
    path = out / "recipe.json"
    if path.exists():
        stored = read_json(path)
        _check_same(out, _identity(recipe), stored)
        _check_data(out, json.loads(json.dumps(dataclasses.asdict(images.info))), stored.get("data_info", {}))
    else:
        # A run that was killed at its first write has left a hidden file.
        if out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
            raise InputError(f"{out} is not empty and holds no run. Choose another folder with --out.")
        beside = {"data_info": dataclasses.asdict(images.info), "command": command}
        write_json(path, to_json(recipe) | beside)
    if not (out / "environment.json").exists():
        write_json(out / "environment.json", environment())


def _check_same(out: Path, ours: dict[str, Any], stored: Any) -> None:
    theirs = stored if isinstance(stored, dict) else {}
    differing = [name for name, value in ours.items() if theirs.get(name) != value]
    if differing:
        raise InputError(
            f"{out} holds a run of another recipe: {', '.join(differing)} differ "
            f"({differing[0]} there: {theirs.get(differing[0])!r}, here: {ours[differing[0]]!r}). "
            "Choose another folder with --out."
        )


def _check_data(out: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse to mix networks: a path or a data folder may have come to hold other classes or images of another size."""
    differing = [name for name, value in ours.items() if theirs.get(name) != value]
    if differing:
        told = ", ".join(f"{name} there: {theirs.get(name)!r}, here: {ours[name]!r}" for name in differing[:2])
        raise InputError(
            f"{out} holds networks of other data: {', '.join(differing)} differ ({_short(told)}). Give the data that "
            "they were trained on, or choose another folder with --out."
        )


def _short(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:400]}..."


def _run_cell(
    recipe: Recipe, splits: _Splits, method: str, seed: int, cell: Path, tell: Callable[[str, int, float], None]
) -> None:
    model = _build(recipe, splits.train, seed)
    log = train(
        model,
        splits.train,
        method=method,
        settings=recipe.settings,
        config=recipe.train,
        seed=seed,
        validation=splits.validation,
        out=cell,
        on_step=lambda done: tell(method, seed, done),
    )
    bits = measure(model, splits.test, recipe.suites)
    checkpoint.save(model, cell, _spec(recipe, splits.train) | {"method": method, "seed": seed})
    write_bits(cell / "bits.npz", bits)
    write_json(cell / "cost.json", _cost(recipe, method, model, log))
    rows = records(bits, data=recipe.data, model=recipe.model, method=method, seed=seed)
    write_records(cell / "records.jsonl", rows)


def _build(recipe: Recipe, images: Images, seed: int) -> torch.nn.Module:
    spec = _spec(recipe, images)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(counter.key(seed, "weights"))
        return models.build(
            spec["name"], classes=spec["classes"], shape=spec["shape"], mean=spec["mean"], std=spec["std"]
        )


def _spec(recipe: Recipe, images: Images) -> dict[str, Any]:
    info = images.info
    return {
        "name": recipe.model,
        "classes": info.classes,
        "shape": info.shape,
        "mean": info.mean,
        "std": info.std,
        "class_names": info.class_names,
    }


def _cost(recipe: Recipe, method: str, model: torch.nn.Module, log: list[Epoch]) -> dict[str, float]:
    settled = log[1:] or log
    return {
        "step_ms": statistics.median(row.step_ms for row in settled),
        "passes": methods.find(method).passes,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sites": len(sites(model, recipe.settings.where)) if is_robust(model) else 0,
    }


def _gather(recipe: Recipe, out: Path) -> None:
    """Rebuild the run's records from its finished cells, in the order of the grid."""
    files = [out / "cells" / cell_name(method, seed) / "records.jsonl" for method, seed in recipe.cells]
    write_records(out / "records.jsonl", [row for file in files if file.exists() for row in read_records(file)])


_Tell = tuple["Callable[[str, int, float], None]", "Callable[[str, int], None]"]


@contextlib.contextmanager
def _progress(recipe: Recipe, console: Console | None) -> Iterator[_Tell]:
    """Show how far the grid is, in epochs weighted by what a method's epoch costs, and how long it will take."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = console or Console(stderr=True)
    passes = {name: methods.find(name).passes for name in recipe.methods}
    epochs = recipe.train.epochs
    total = epochs * sum(passes[method] for method, _ in recipe.cells)
    done = dict.fromkeys(recipe.cells, 0.0)
    start = time.monotonic()
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"))
    shown = console.is_terminal
    with Progress(TextColumn("{task.description}"), BarColumn(), *times, console=console, disable=not shown) as bar:
        task = bar.add_task("", total=total)

        def tell(method: str, seed: int, epoch: float) -> None:
            done[method, seed] = passes[method] * epoch
            what = f"{method} seed {seed}, epoch {min(int(epoch) + 1, epochs)}/{epochs}"
            bar.update(task, completed=sum(done.values()), description=what)

        def finish(method: str, seed: int) -> None:
            tell(method, seed, epochs)
            if not shown:
                spent = time.monotonic() - start
                left = spent * (total / sum(done.values()) - 1)
                console.print(f"{method} seed {seed} done, {spent:.0f} s, {left:.0f} s left")

        yield tell, finish
