"""Numbers as people read them: errors in percent, differences in percentage points, p values to three decimals."""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.errors import InputError
from resolute.run_folder import DIVERGED, cell_name, read_bits, read_json, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.run_folder import Key
    from resolute.stats import Interval


NONE = "\N{EM DASH}"
WORDS = {"no difference seen": "none seen"}
"""Verdicts where there is little room."""


def percent(share: float) -> str:
    """Write a share as a percentage with two decimals, without the sign.

    Args:
        share: In [0, 1], or NaN.

    Returns:
        The number, or a dash for NaN.

    >>> percent(0.0152)
    '1.52'
    """
    return NONE if math.isnan(share) else f"{100 * share:.2f}"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, always signed.

    Args:
        difference: In [-1, 1], or NaN.

    Returns:
        The number, or a dash for NaN.

    >>> points(-0.0021), points(0.0002), points(-0.00001)
    ('-0.21', '+0.02', '0.00')
    """
    if math.isnan(difference):
        return NONE
    text = f"{100 * difference:+.2f}"
    return text[1:] if float(text) == 0 else text


def p_value(p: float) -> str:
    """Write a p value to three decimals.

    Args:
        p: In [0, 1], or NaN.

    Returns:
        The number, ``"<0.001"``, or a dash for NaN.

    >>> p_value(0.0625), p_value(1e-9)
    ('0.062', '<0.001')
    """
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def times(ratio: float) -> str:
    """Write a ratio of step times.

    Args:
        ratio: Above 0, or NaN.

    Returns:
        The number with two decimals, or a dash for NaN.
    """
    return NONE if math.isnan(ratio) else f"{ratio:.2f}"


def severity(value: float) -> str:
    """Write a severity as short as it is exact to four digits.

    Args:
        value: In the shift's own unit.

    Returns:
        The number.

    >>> severity(8 / 255), severity(3.0)
    ('0.03137', '3')
    """
    return f"{value:.4g}"


def fraction(radius: float) -> str:
    """Write a radius as it is customary: two decimals where they are exact, else in whole grey levels of 255.

    Args:
        radius: In pixel units.

    Returns:
        ``"8/255"``, or the number to four digits.

    >>> fraction(8 / 255), fraction(0.2)
    ('8/255', '0.2')
    """
    levels = round(255 * radius)
    in_levels = math.isclose(255 * radius, levels, abs_tol=1e-6) and not math.isclose(radius, round(radius, 2))
    return f"{levels}/255" if in_levels else severity(radius)


def bounds(interval: Interval) -> str:
    """Write an error's interval in percent.

    Args:
        interval: Of shares.

    Returns:
        ``"LOW to HIGH"``, or "" where there is none.
    """
    return "" if math.isnan(interval.low) else f"{percent(interval.low)} to {percent(interval.high)}"


def signed_bounds(interval: Interval) -> str:
    """Write a difference's interval in percentage points.

    Args:
        interval: Of differences of shares.

    Returns:
        ``"LOW to HIGH"``, or "" where there is none.
    """
    return "" if math.isnan(interval.low) else f"{points(interval.low)} to {points(interval.high)}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun.

    Args:
        number: How many.
        noun: In the singular.
        plural: The plural, where it is more than an s.

    Returns:
        ``"1 seed"``, ``"5 seeds"``.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(names: list[str]) -> str:
    """Join names as in a sentence.

    Args:
        names: At least one.

    Returns:
        ``"a, b and c"``.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def brief(method: str) -> str:
    """Write a method's name where there is little room: a variant's eps and place as they are, without their names.

    Args:
        method: As in the records.

    Returns:
        The name, shorter for a variant.

    >>> brief("r@eps=0.3@where=both"), brief("fgsm")
    ('r@0.3@both', 'fgsm')
    """
    return method.replace("@eps=", "@").replace("@where=", "@")


MOST_CELLS = 1_000_000
CURVES = ("lr", "loss", "train_error", "validation_error")


@dataclass(frozen=True)
class Cell:
    """One finished training run.

    Attributes:
        method: Name of the training method.
        seed: Seed of the run.
        wrong: For each ``(suite, shift, severity)`` a boolean array of shape [n]: True where the answer was wrong.
        curves: For each name in `CURVES` a float array of shape [epochs]; NaN where nothing was measured. Losses are
            in nats, errors shares in [0, 1].
        step_ms: Median time of a training step in milliseconds; NaN if it was not measured.
        passes: Forward and backward passes of a batch in a step; NaN if they were not counted.
        parameters: Trainable numbers of the network; 0 if they were not counted.
        sites: Places where the method disturbs the network.
    """

    method: str
    seed: int
    wrong: Mapping[Key, NDArray[np.bool_]]
    curves: Mapping[str, NDArray[np.float64]]
    step_ms: float
    passes: float
    parameters: int
    sites: int


@dataclass(frozen=True)
class Run:
    """A run directory, read.

    Attributes:
        recipe: ``recipe.json`` as it stands.
        environment: ``environment.json`` as it stands.
        methods: Names of the methods, in the recipe's order.
        baseline: The method that the others are compared with.
        seeds: Seeds, in the recipe's order.
        cells: The finished cells by ``(method, seed)``.
        missing: The ``(method, seed)`` that the recipe asks for and that have no records.
        diverged: Those of them whose training diverged.
        keys: Every ``(suite, shift, severity)``, in the order of the records.
        n: Number of test images.
        sha256: Hash of ``records.jsonl``, or "" if the run has not written it yet.
    """

    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    methods: tuple[str, ...]
    baseline: str
    seeds: tuple[int, ...]
    cells: Mapping[tuple[str, int], Cell]
    missing: tuple[tuple[str, int], ...]
    diverged: tuple[tuple[str, int], ...]
    keys: tuple[Key, ...]
    n: int
    sha256: str

    @property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites, in the order of the records."""
        return tuple(dict.fromkeys(suite for suite, _, _ in self.keys))

    def finished(self, method: str) -> tuple[int, ...]:
        """List a method's finished seeds.

        Args:
            method: Name of the method.

        Returns:
            The seeds, in the recipe's order.
        """
        return tuple(seed for seed in self.seeds if (method, seed) in self.cells)

    def wrong(self, method: str, seeds: tuple[int, ...], keys: tuple[Key, ...]) -> NDArray[np.bool_]:
        """Stack a method's wrong answers.

        Args:
            method: Name of the method.
            seeds: Finished seeds.
            keys: Shifts and severities.

        Returns:
            Boolean array of shape [seeds, keys, n].
        """
        return np.array([[self.cells[method, seed].wrong[key] for key in keys] for seed in seeds])


def load_run(folder: Path) -> Run:
    """Read a run directory.

    Cells that are not finished are listed in ``missing``; what they have left on disk is not read.

    Args:
        folder: The folder that ``resolute compare`` wrote.

    Returns:
        What the files say.

    Raises:
        InputError: If the folder is no run directory, no cell is finished, or files contradict each other.
    """
    recipe = read_json(folder / "recipe.json")
    try:
        methods, seeds = tuple(map(str, recipe["methods"])), tuple(map(int, recipe["seeds"]))
        baseline = str(recipe["baseline"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'recipe.json'} is not a recipe of `resolute compare` ({error!r}).") from error
    if any({"/", "\\", "\0"} & set(method) for method in methods) or len(methods) * len(seeds) > MOST_CELLS:
        raise InputError(f"{folder / 'recipe.json'} names methods by paths, or over {MOST_CELLS:,} cells.")
    grid = [(method, seed) for method in methods for seed in seeds]
    cells = {
        (method, seed): cell
        for method, seed in grid
        if (cell := _read_cell(folder / "cells", method, seed)) is not None
    }
    if not cells:
        raise InputError(
            f"nothing is finished in {folder} yet: none of {len(grid)} cells. Go on with `resolute compare`."
        )
    keys, n = _common_columns(folder, cells)
    records = folder / "records.jsonl"
    return Run(
        recipe=recipe,
        environment=read_json(folder / "environment.json"),
        methods=methods,
        baseline=baseline,
        seeds=seeds,
        cells=cells,
        missing=tuple(place for place in grid if place not in cells),
        diverged=tuple(place for place in grid if (folder / "cells" / cell_name(*place) / DIVERGED).is_file()),
        keys=keys,
        n=n,
        sha256=hashlib.sha256(records.read_bytes()).hexdigest() if records.is_file() else "",
    )


def _read_cell(cells: Path, method: str, seed: int) -> Cell | None:
    folder = cells / cell_name(method, seed)
    if not (folder / "records.jsonl").is_file():
        return None
    records, bits = read_records(folder / "records.jsonl"), read_bits(folder / "bits.npz")
    counts = {key: (int(right.sum()), len(right)) for key, right in bits.items()}
    if {record.key: (record.correct, record.n) for record in records} != counts:
        raise InputError(f"{folder}: records.jsonl and bits.npz count differently. Delete this cell and run again.")
    cost = read_json(folder / "cost.json") if (folder / "cost.json").is_file() else {}
    return Cell(
        method=method,
        seed=seed,
        wrong={record.key: ~bits[record.key] for record in records},
        curves=_read_curves(folder / "train.csv"),
        step_ms=float(cost.get("step_ms", np.nan)),
        passes=float(cost.get("passes", np.nan)),
        parameters=int(cost.get("parameters", 0)),
        sites=int(cost.get("sites", 0)),
    )


def _read_curves(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        return {name: np.empty(0) for name in CURVES}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {name: np.array([float(row.get(name) or "nan") for row in rows]) for name in CURVES}
    except ValueError as error:
        raise InputError(
            f"{path} holds something that is not a number ({error}). Delete the cell and run again."
        ) from error


def _common_columns(folder: Path, cells: Mapping[tuple[str, int], Cell]) -> tuple[tuple[Key, ...], int]:
    first = next(iter(cells.values()))
    sizes = {len(wrong) for cell in cells.values() for wrong in cell.wrong.values()}
    if any(cell.wrong.keys() != first.wrong.keys() for cell in cells.values()) or len(sizes) != 1:
        raise InputError(f"the cells of {folder} met different suites or images. Run again into an empty folder.")
    return tuple(first.wrong), sizes.pop()


LONG = 20
TITLES = {"train": "Training", "data_info": "Data"}


def facts(run: Run) -> dict[str, list[tuple[str, str]]]:
    """List the recipe, the machine and the hash of the records.

    Args:
        run: The run.

    Returns:
        For each heading the names and values. Sections of the recipe that are not known here are listed as well.
    """
    recipe = {key: value for key, value in run.recipe.items() if key != "command"}
    sections = {key: recipe.pop(key) for key in TITLES if isinstance(recipe.get(key), dict)}
    cells = run.cells.values()
    network = {"parameters": ", ".join(f"{number:,}" for number in sorted({cell.parameters for cell in cells}))}
    network |= {f"sites, {cell.method}": str(cell.sites) for cell in cells}
    return {
        "Recipe": list(_flat(recipe)),
        **{TITLES[key]: list(_flat(value)) for key, value in sections.items()},
        "Network": list(network.items()),
        "Machine and versions": list(_flat(run.environment)),
        "Files": [("records.jsonl, SHA-256", run.sha256 or "not written yet")],
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        more = f" and {len(value) - LONG} more" if len(value) > LONG else ""
        return ", ".join(_shown(item) for item in value[:LONG]) + more
    return str(value)
