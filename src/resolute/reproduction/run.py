"""Run one row: train it beside base, or judge published weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resolute import models
from resolute.comparison import compare
from resolute.data import load
from resolute.errors import InputError
from resolute.evaluation import measure, records
from resolute.progress import progress
from resolute.recipes import QUOTED, TRAINED, WEIGHTS
from resolute.recipes.row import TOP_1_AND_5
from resolute.records import environment, read_json, write_json, write_records
from resolute.reproduction.results import WEIGHTS as PRETRAINED
from resolute.reproduction.scale import scaled

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.paper import Row
    from resolute.recipes import Recipe
    from resolute.records import Record
    from resolute.report import Summary


def recipe_of(row: Row, scale: str, out: Path, *, seeds: int | None = None, **train: Any) -> Recipe:
    """Make the recipe that a run of a row follows.

    Args:
        row: A row that can be trained.
        scale: As in `scale.scaled`.
        out: The folder of all runs, where a smoke run's images are written too.
        seeds: Number of seeds, 1 or more; None for the scale's own.
        train: Fields of `TrainConfig` to set: ``device``, ``precision``, ``compile``.

    Returns:
        The recipe: the row's method, and base with the same seeds. It is named after the base row and the scale, since
        the rows of a network share one run, in which base is trained once.

    Raises:
        InputError: If the row is one that is not trained, or the scale is unknown.
    """
    if row.id not in TRAINED:
        judged = " Its published weights can be judged: leave --scale out." if row.id in WEIGHTS else ""
        raise InputError(f"row {row.id} is quoted and not trained: {QUOTED[row.id]}.{judged}")
    recipe = scaled(TRAINED[row.id].recipe, scale, out)
    own = recipe.seeds if seeds is None else tuple(range(seeds))
    name = f"{row.base.id}-{scale}"
    return replace(recipe, name=name, train=replace(recipe.train, **train), seeds=own)


def train_row(recipe: Recipe, out: Path, *, data_dir: str | None = None, command: str = "") -> tuple[Path, Summary]:
    """Train a row and its base row, judge both, write a report; a killed run goes on, and finished networks stay.

    Args:
        recipe: As `recipe_of` gives it.
        out: The folder of all runs.
        data_dir: The folder that holds named data sets.
        command: The command line, for the report.

    Returns:
        The run directory, and what was seen, of the network's other rows as well where they were run before.
    """
    folder = out / recipe.name
    stored = read_json(folder / "recipe.json") if (folder / "recipe.json").exists() else {}
    methods = tuple(dict.fromkeys((*recipe.methods, *stored.get("methods", ()))))
    return folder, compare(replace(recipe, methods=methods, data_dir=data_dir), folder, command=command)


def judge_weights(
    row: Row, out: Path, *, data_dir: str | None = None, device: str = "auto"
) -> tuple[Path, list[Record]]:
    """Judge the published weights of a base row on the clean test images, top-1 and top-5, unless that was done.

    Args:
        row: A row that a library has weights of.
        out: The folder of all runs.
        data_dir: The folder that holds named data sets.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns:
        The folder of the results, and the results: top-1, then top-5.

    Raises:
        InputError: If no library has weights of the row, or they or the images cannot be had.
    """
    from resolute.assessment import device as find_device
    from resolute.records import read_records

    if row.id not in WEIGHTS:
        raise InputError(f"no library has weights of row {row.id}. There are of: {', '.join(WEIGHTS)}.")
    weights, folder = WEIGHTS[row.id], out / f"{row.id}-{PRETRAINED}"
    if not (folder / "records.jsonl").exists():
        images = load(row.data, data_dir, "test", weights.size)
        model = models.build(weights.model, classes=images.info.classes, pretrained=True, shape=images.info.shape)
        with progress(len(TOP_1_AND_5) * len(images)) as meter:
            seen = 0

            def tell(count: int) -> None:
                nonlocal seen
                seen += count
                meter.tell(seen, f"{row.name}, image {seen:,}")

            bits = measure(model.to(find_device(device)), images, TOP_1_AND_5, batch_size=50, on_batch=tell)
        write_json(folder / "recipe.json", _described(row))
        write_json(folder / "environment.json", environment())
        found = records(bits, data=row.data, model=weights.model, method=PRETRAINED, seed=0)
        write_records(folder / "records.jsonl", found)
    return folder, read_records(folder / "records.jsonl")


def _described(row: Row) -> dict[str, Any]:
    weights = WEIGHTS[row.id]
    return {
        "name": f"{row.id}-{PRETRAINED}",
        "data": row.data,
        "model": weights.model,
        "size": weights.size,
        "methods": [PRETRAINED],
        "seeds": [0],
        "settings": {},
        "train": {"augment": None},
        "deviations": list(weights.deviations),
    }
