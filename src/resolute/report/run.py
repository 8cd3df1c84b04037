"""Read the folder of a comparison: whole, or its records alone."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.errors import InputError
from resolute.report.numbers import flat, from_spreadsheet
from resolute.run_folder import (
    CHECKSUMS,
    DIVERGED,
    TIMES,
    cell_identity,
    cell_name,
    is_sealed,
    read_bits,
    read_json,
    read_records,
)
from resolute.safe_io import COUNT, NAME, POSITIVE, Maybe, Within, inside, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.run_folder import Key, Record

Place = tuple[str, int]
"""Method and seed of a cell."""
MOST_CELLS = 1_000_000
MOST_ROWS = 2**24
"""Bytes in a log of epochs, of which each has about 100."""
CURVE_COLUMNS = ("lr", "loss", "train_error", "validation_error")


RECIPE = {
    "methods": Within([NAME], 1), "seeds": Within([COUNT], 1), "baseline?": NAME, "data?": str, "model?": str,
    "split?": str, "command?": Maybe(str), "identity?": dict,
}  # fmt: skip
"""What the report reads of recipe.json; it lists the rest as it stands."""
COST = {"passes?": POSITIVE, "parameters?": COUNT, "sites?": COUNT, "eps?": float}
TAKEN = Within(float, 1e-9)
STEPS = {
    "methods": {str: {"ms": Within([TAKEN], 1), "baseline_ms": Within([TAKEN], 1), "load": float, "cores": POSITIVE}}
}
_START = "pretrained_sha256"
COUNTS_ALONE = (
    "The answers image by image are not in this folder: differences are told for new seeds on these images, not for "
    "new images."
)


@dataclass(frozen=True)
class Cell:
    """One finished training run."""

    method: str
    seed: int
    errors: Mapping[Key, float]  # for each `(suite, shift, severity)` the share of wrong answers
    n: int  # number of test images
    wrong: Mapping[Key, NDArray[np.bool_]]  # bool [n], True where wrong; empty if not kept
    curves: Mapping[str, NDArray[np.float64]]  # for each name in `CURVE_COLUMNS` a float array of shape [epochs]
    passes: float = math.nan  # forward and backward passes of a batch in a step; NaN if they were not counted
    parameters: int = 0  # trainable numbers of the network; 0 if they were not counted
    sites: int = 0  # places where the method disturbs the network
    eps: float = math.nan  # strength of the noise there, given or found; NaN without noise


@dataclass(frozen=True)
class Steps:
    """Training steps of a method and of the baseline, timed in turn."""

    ratios: tuple[float, ...]  # of each pair of steps
    ms: tuple[float, ...]  # of the baseline's steps
    load: float  # the machine's load average when it began: processes that wanted a core
    cores: float


@dataclass(frozen=True)
class Run:
    """The folder of a comparison, read."""

    recipe: Mapping[str, Any]  # `recipe.json` as it stands
    environment: Mapping[str, Any]  # `environment.json` as it stands
    methods: tuple[str, ...]  # in the recipe's order
    baseline: str  # the method that the others are compared with
    seeds: tuple[int, ...]
    cells: Mapping[Place, Cell]  # the finished cells by `(method, seed)`
    missing: tuple[Place, ...]  # the `(method, seed)` of the recipe that have no records
    diverged: tuple[Place, ...]  # those of them whose training diverged
    keys: tuple[Key, ...]  # every `(suite, shift, severity)`, in the order of the records
    n: int  # number of test images
    steps: Mapping[str, Steps]  # by method; of those that were timed
    sha256: str  # hash of `records.jsonl`, or "" if the run has not written it yet

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites, in the order of the records."""
        return tuple(dict.fromkeys(suite for suite, _, _ in self.keys))

    @property
    def has_answers(self) -> bool:
        """Whether the folder holds which image was got wrong, or counts alone."""
        return all(cell.wrong for cell in self.cells.values())

    def finished(self, method: str) -> tuple[int, ...]:
        """List a method's finished seeds."""
        return tuple(seed for seed in self.seeds if (method, seed) in self.cells)

    def errors(self, method: str, seeds: Sequence[int], keys: Sequence[Key]) -> NDArray[np.float64]:
        """Give a method's mean error over some shifts for each seed."""
        return np.array([np.mean([self.cells[method, seed].errors[key] for key in keys]) for seed in seeds])

    def wrong(self, method: str, seeds: Sequence[int], keys: Sequence[Key]) -> NDArray[np.bool_]:
        """Stack a method's wrong answers: bool [seeds, shifts, n]."""
        return np.array([[self.cells[method, seed].wrong[key] for key in keys] for seed in seeds])


def load_run(folder: Path) -> Run:
    """Read the folder of a comparison or of one training run; without its cells from ``records.jsonl`` alone."""
    path = folder / "recipe.json"
    recipe = read_json(path, RECIPE)
    methods, seeds = tuple(recipe["methods"]), tuple(recipe["seeds"])
    baseline = recipe.get("baseline", methods[0])
    if len(methods) * len(seeds) > MOST_CELLS:
        raise InputError(f"{path} has over {MOST_CELLS:,} cells.")
    if len({*methods}) < len(methods) or len({*seeds}) < len(seeds) or baseline not in methods:
        raise InputError(f"{path} names a method or a seed twice, or its baseline {baseline!r} is not in its methods.")
    grid = [(method, seed) for method in methods for seed in seeds]
    cells = _read_cells(folder, grid, recipe.get("identity"))
    if not cells:
        raise InputError(
            f"nothing is finished in {folder} yet: none of {len(grid)} cells. Run its `resolute compare` again."
        )
    keys, n = _common_columns(folder, cells)
    records = folder / "records.jsonl"
    return Run(
        recipe, read_json(folder / "environment.json", dict), methods, baseline, seeds, cells,
        missing=tuple(place for place in grid if place not in cells),
        diverged=tuple(place for place in grid if (folder / "cells" / cell_name(*place) / DIVERGED).is_file()),
        keys=keys, n=n, steps=_read_steps(folder / TIMES),
        sha256=hashlib.sha256(records.read_bytes()).hexdigest() if records.is_file() else "",
    )  # fmt: skip


def _read_steps(path: Path) -> dict[str, Steps]:
    found = read_json(path, STEPS)["methods"] if path.is_file() else {}
    return {
        method: Steps(
            tuple(own / base for own, base in zip(each["ms"], each["baseline_ms"], strict=False)),
            tuple(each["baseline_ms"]), each["load"], each["cores"],
        )
        for method, each in found.items()
    }  # fmt: skip


def _read_cells(folder: Path, grid: list[Place], identity: Mapping[str, Any] | None) -> dict[Place, Cell]:
    """Read the cells' folders; without them the folder as the one cell that it is; else the records alone."""
    if (folder / "cells").is_dir():
        places = {place: inside(folder / "cells", cell_name(*place)) for place in grid}
        whole = {place: own for place, own in places.items() if (own / "records.jsonl").is_file()}
        return {place: _read_cell(own, *place, identity) for place, own in whole.items()}
    if len(grid) == 1 and (folder / "bits.npz").is_file():
        return {grid[0]: _read_cell(folder, *grid[0], identity)}
    path, rows = folder / "records.jsonl", dict[Any, list[Any]]()
    for row in read_records(path) if path.is_file() else []:
        rows.setdefault((row.method, row.seed), []).append(row)
    if strange := next((place for place in rows if place not in grid), None):
        raise InputError(f"{path} has records of {strange[0]} seed {strange[1]}, which is not in recipe.json.")
    return {place: Cell(*place, *_counted(path, rows[place]), {}, _curves(path, [])) for place in grid if place in rows}


def _read_cell(folder: Path, method: str, seed: int, identity: Mapping[str, Any] | None) -> Cell:
    if identity is not None and not is_sealed(folder, cell_identity(identity, method, seed)):
        raise InputError(f"{folder / CHECKSUMS} is missing. Delete this cell and run again.")
    path = folder / "records.jsonl"
    records, bits = read_records(path), read_bits(folder / "bits.npz")
    errors, n = _counted(path, records)
    counts = {key: (int(right.sum()), len(right)) for key, right in bits.items()}
    if {record.key: (record.correct, record.n) for record in records} != counts:
        raise InputError(f"{folder}: records.jsonl and bits.npz count differently. Delete this cell and run again.")
    log = folder / "train.csv"
    rows = read_csv(log) if log.is_file() else []
    cost = read_json(folder / "cost.json", COST) if (folder / "cost.json").is_file() else {}
    return Cell(
        method, seed, errors, n, {key: ~bits[key] for key in errors}, _curves(log, rows),
        cost.get("passes", math.nan), cost.get("parameters", 0), cost.get("sites", 0), cost.get("eps", math.nan),
    )  # fmt: skip


def _counted(path: Path, records: Sequence[Record]) -> tuple[dict[Key, float], int]:
    errors = {record.key: record.error for record in records}
    if not records or len(errors) < len(records) or len({record.n for record in records}) > 1:
        raise InputError(f"{path} is empty, has a shift twice, or counts different images. Run again elsewhere.")
    return errors, records[0].n


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table with a head; what a line lacks is empty."""
    try:
        text = read_file(path, MOST_ROWS).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is no table of comma-separated values ({error}). Restore it.") from error
    return [{name: from_spreadsheet(value) for name, value in row.items() if isinstance(value, str)} for row in rows]


def read_number(path: Path, row: Mapping[str, str], name: str) -> float:
    """Read one number of a table; NaN where its cell is empty."""
    text = row.get(name, "")
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise InputError(f"{path}: {name} is {text[:60]!r}; wanted is a number. Restore it, or run again.")
    return value


def _curves(path: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, NDArray[np.float64]]:
    return {name: np.array([read_number(path, row, name) for row in rows]) for name in CURVE_COLUMNS}


def _common_columns(folder: Path, cells: Mapping[Place, Cell]) -> tuple[tuple[Key, ...], int]:
    first = next(iter(cells.values()))
    if any(cell.errors.keys() != first.errors.keys() or cell.n != first.n for cell in cells.values()):
        raise InputError(f"the cells of {folder} met different suites or images. Run again into an empty folder.")
    return tuple(first.errors), first.n


TITLES = {"train": "Training", "data_info": "Data"}


def eps_text(run: Run, method: str) -> str:
    """Write the eps of a method's cells, or its range; nothing without noise."""
    own = [cell.eps for cell in run.cells.values() if cell.method == method and cell.eps >= 0]
    return " to ".join(dict.fromkeys(f"{each:g}" for each in (min(own), max(own)))) if own else ""


def run_facts(run: Run) -> dict[str, list[tuple[str, str]]]:
    """List the recipe, the machine and the hash of the records."""
    recipe = {key: value for key, value in run.recipe.items() if key not in ("command", "identity", _START)}
    images = (run.recipe.get("identity") or {}).get("images")
    pixels = {f"{split} images, SHA-256": value for split, value in images.items()} if isinstance(images, dict) else {}
    pixels |= {"pretrained weights, SHA-256": run.recipe[_START]} if isinstance(run.recipe.get(_START), str) else {}
    sections = {key: recipe.pop(key) for key in TITLES if isinstance(recipe.get(key), dict)}
    cells = run.cells.values()
    sizes = sorted({cell.parameters for cell in cells if cell.parameters})
    network = {"parameters": ", ".join(f"{size:,}" for size in sizes)} if sizes else {}
    network |= {f"sites, {cell.method}": str(cell.sites) for cell in cells if cell.parameters}
    network |= {f"eps, {method}": eps for method in run.methods if (eps := eps_text(run, method))}
    return {
        "Recipe": list(flat(recipe)),
        **{TITLES[key]: list(flat(value)) for key, value in sections.items()},
        "Network": list(network.items()),
        "Machine and versions": list(flat(run.environment)),
        "Files": [*flat(pixels), ("records.jsonl, SHA-256", run.sha256 or "not written yet")],
    }
