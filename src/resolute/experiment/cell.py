"""One cell of the grid: a training run and its evaluation, from a recipe, a method and a seed alone."""

from __future__ import annotations

import contextlib
import copy
import functools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from filelock import Timeout

from resolute import methods, models
from resolute.data import load
from resolute.data.dataset import Images, balanced_part
from resolute.errors import DivergedError, InputError
from resolute.evaluation.measure import measure, records
from resolute.models import checkpoint
from resolute.noise import signs
from resolute.noise.robustify import is_robust
from resolute.noise.sites import sites
from resolute.run_folder import DIVERGED, cell_name, locked, write_bits, write_json, write_records
from resolute.shifts import find_shifts
from resolute.training.distributed import rank
from resolute.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.experiment.recipe import Recipe
    from resolute.training.config import Epoch


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The images of a comparison.

    Attributes:
        train: All that may be trained on.
        validation: What is held out of training; None if nothing is.
        test: What the trained networks are judged on.
    """

    train: Images
    validation: Images | None
    test: Images


def load_splits(recipe: Recipe) -> Splits:
    """Load what a recipe trains on and judges on.

    Args:
        recipe: The recipe.

    Returns:
        The images.
    """

    def part(split: str) -> Images:
        return load(recipe.data, recipe.data_dir, split, recipe.size)

    validation = part("validation") if recipe.hold_out else None
    test = part("test") if recipe.split == "test" else part("validation")
    return Splits(part("train" if recipe.hold_out else "train+validation"), validation, test)


def check(recipe: Recipe, splits: Splits) -> None:
    """Refuse a name or a place of the noise now, not when the folder already holds a recipe that cannot be run.

    Args:
        recipe: The recipe.
        splits: Its images.
    """
    find_shifts(recipe.suites, splits.test.info)
    model = _build(recipe, splits.train, seed=0)
    weights = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for method in methods.find_all(recipe.methods):
        method.prepare(copy.deepcopy(model, dict(weights)), recipe.settings)  # a copy that shares the weights


def run_cell(
    recipe: Recipe,
    splits: Splits,
    method: str,
    seed: int,
    out: Path,
    tell: Callable[[str, int, float], None] | None = None,
) -> bool:
    """Train and judge one network, unless that is done already, or another process is at it.

    A process holds the lock of its cell, which ends with the process; so any number of processes may go through the
    cells of one directory, and each cell is run once.

    Args:
        recipe: What is compared, `resolved`.
        splits: Its images.
        method: One of its methods.
        seed: One of its seeds.
        out: The run directory.
        tell: Called after each step with method, seed and the epochs done so far.

    Returns:
        Whether the cell is finished; False if another process is at it.

    Raises:
        DivergedError: If the baseline's training diverges, without which nothing can be compared. Of another method
            the cell keeps the message in ``diverged.json``, is finished by that and has no records.
        InputError: If the directory cannot be written or has no locks.
    """
    cell = out / "cells" / cell_name(method, seed)
    locks = out / ".locks"
    with contextlib.suppress(Timeout), locked(locks, cell.name):
        if not is_finished(out, method, seed):
            try:
                _run(recipe, splits, method, seed, cell, tell)
            except DivergedError as error:
                if method == recipe.baseline:
                    raise
                write_json(cell / DIVERGED, {"message": str(error)})
    if (cell / "records.jsonl").exists():
        (cell / "checkpoint.pt").unlink(missing_ok=True)
    return is_finished(out, method, seed)


def is_finished(out: Path, method: str, seed: int) -> bool:
    """Tell whether a cell's records are on disk, which are written last, or its training has diverged.

    Args:
        out: The run directory.
        method: Name of the method.
        seed: Seed of the run.

    Returns:
        Whether it is finished.
    """
    cell = out / "cells" / cell_name(method, seed)
    return (cell / "records.jsonl").exists() or (cell / DIVERGED).exists()


def run_alone(recipe: Recipe, splits: Splits, out: Path, tell: Callable[[str, int, float], None] | None = None) -> None:
    """Train and judge the one network of a recipe, by this process or together with those that torchrun started.

    Args:
        recipe: A recipe of one cell, `resolved`.
        splits: Its images.
        out: Folder of the checkpoint.
        tell: As in `run_cell`.

    Raises:
        InputError: If another process trains in the folder.
    """
    [(method, seed)] = recipe.cells
    try:
        lock = locked(out / ".locks", "train") if rank(recipe.train) == 0 else contextlib.nullcontext()
    except Timeout as error:
        raise InputError(f"another process trains in {out}. Let it finish, or choose another --out.") from error
    with lock:
        if not (out / "records.jsonl").exists():
            _run(recipe, splits, method, seed, out, tell)


def _run(
    recipe: Recipe, splits: Splits, method: str, seed: int, cell: Path, tell: Callable[[str, int, float], None] | None
) -> None:
    model, images = _build(recipe, splits.train, seed), splits.train
    if recipe.train_fraction < 1:
        images = images.part(balanced_part(images.y, recipe.train_fraction, seed))
    log = train(
        model,
        images,
        method=method,
        settings=recipe.settings,
        config=recipe.train,
        seed=seed,
        validation=splits.validation,
        out=cell,
        on_step=functools.partial(tell, method, seed) if tell else None,
    )
    bits = measure(model, splits.test, recipe.suites, sharded=True)
    if rank(recipe.train):
        return
    checkpoint.save(model, cell, _spec(recipe, splits.train) | {"method": method, "seed": seed})
    write_bits(cell / "bits.npz", bits)
    write_json(cell / "cost.json", _cost(recipe, method, model, log))
    rows = records(bits, data=recipe.data, model=recipe.model, method=method, seed=seed)
    write_records(cell / "records.jsonl", rows)


def _build(recipe: Recipe, images: Images, seed: int) -> torch.nn.Module:
    spec = _spec(recipe, images)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(signs.key(seed, "weights"))
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
        "sites": len(sites(model, methods.settings_of(method, recipe.settings).where)) if is_robust(model) else 0,
    }
