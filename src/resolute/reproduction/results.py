"""Read what was measured: the records of runs, pooled over the folders that hold seeds of the same training."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.errors import InputError
from resolute.methods import Settings, settings_of
from resolute.recipes import completed, to_json
from resolute.records import read_json, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolute.recipes import Recipe
    from resolute.records import Key, Record

WEIGHTS = "weights"
"""Name of the method in the records of published weights."""
_ELSEWHERE = {"name", "data_dir", "methods", "baseline", "seeds", "settings", "suites", "data_info", "command"}
"""Fields of a stored recipe that do not say how base was trained."""
_HARDWARE = {"device", "devices", "tensorboard"}


@dataclass(frozen=True, slots=True)
class Pool:
    """One method, trained in one way with some seeds.

    Attributes:
        training: How: the fields of a recipe that matter, nested ones as ``train.epochs``; defaults filled in.
        method: Name of the method, without what a variant's name says of its settings.
        setting: What of `Settings` the method depends on: eps, p and where of ``r``, radius of ``fgsm``.
        counts: By seed, by (suite, shift, severity): the record.
        asked: The seeds that its runs were to have; those without records diverged or are not finished.
        base: The pool of base of the same training; None for base itself, and where it was not run.
    """

    training: Mapping[str, Any]
    method: str
    setting: Mapping[str, Any]
    counts: Mapping[int, Mapping[Key, Record]]
    asked: frozenset[int]
    base: Pool | None = None

    def errors(self, key: Key) -> dict[int, float]:
        """Give the error under a shift by seed.

        Args:
            key: Suite, shift and severity.

        Returns:
            Shares in [0, 1], for the seeds that were judged under it.
        """
        return {seed: row[key].error for seed, row in sorted(self.counts.items()) if key in row}

    def images(self, key: Key) -> int:
        """Count the test images of a shift.

        Args:
            key: Suite, shift and severity.

        Returns:
            The number; 0 if nothing was judged under it.
        """
        return max((row[key].n for row in self.counts.values() if key in row), default=0)


def results_folder(asked: Path | None = None) -> Path:
    """Say where the runs are that the ledger reads.

    Args:
        asked: The folder, if it is known.

    Returns:
        ``asked``, else ``experiments/results`` below the current folder, else what the package was built with or, of
        a checkout, what lies in it: the same runs.

    Raises:
        InputError: If there is none of them.
    """
    package, here = Path(str(resources.files("resolute"))), Path("experiments/results")
    known = (here, package / "results", package.parents[1] / here)
    found = asked or next((path for path in known if path.is_dir()), None)
    if found is None:
        raise InputError("there is no folder experiments/results here. Name a folder that holds runs: --results.")
    return found


def read_pools(folder: Path) -> list[Pool]:
    """Read every run below a folder.

    A run is a folder with ``recipe.json`` and ``records.jsonl``. Runs on the validation images and smoke runs are left
    out. Seeds of one training may lie in several folders.

    Args:
        folder: The folder.

    Returns:
        The pools in the order in which they were found, folders by name.

    Raises:
        InputError: If there is no such folder, or a run cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}. Give one that holds runs: --results.")
    found: dict[str, Pool] = {}
    for run in sorted(path.parent for path in folder.rglob("recipe.json") if (path.parent / "records.jsonl").exists()):
        for key, pool in _read_run(run):
            found[key] = pool if key not in found else _joined(found[key], pool)
    bases = {_key(pool.training): pool for pool in found.values() if pool.method == "base"}
    return [
        pool if pool.method == "base" else dataclasses.replace(pool, base=bases.get(_key(pool.training)))
        for pool in found.values()
    ]


def _joined(first: Pool, second: Pool) -> Pool:
    """Put two runs of one training together; of what both measured the first counts."""
    seeds = dict.fromkeys((*first.counts, *second.counts))
    counts = {seed: {**second.counts.get(seed, {}), **first.counts.get(seed, {})} for seed in seeds}
    return dataclasses.replace(first, counts=counts, asked=first.asked | second.asked)


def _read_run(run: Path) -> Iterator[tuple[str, Pool]]:
    stored = read_json(run / "recipe.json")
    try:
        training, settings = _training(stored), Settings(**stored["settings"])
        asked, is_measurement = frozenset(stored["seeds"]), _is_measurement(stored)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{run / 'recipe.json'} is not a recipe of `resolute compare` ({error!r}).") from error
    if not is_measurement:
        return
    rows = read_records(run / "records.jsonl")
    for method in dict.fromkeys(row.method for row in rows):
        name = method.partition("@")[0]
        setting = _setting(name, dataclasses.asdict(settings_of(method, settings)))
        counts: dict[int, dict[Key, Record]] = {}
        for row in rows:
            if row.method == method:
                counts.setdefault(row.seed, {})[row.key] = row
        yield f"{name} {_key(setting)} {_key(training)}", Pool(training, name, setting, counts, asked)


def _is_measurement(stored: dict[str, Any]) -> bool:
    return stored.get("split", "test") == "test" and "smoke-digits" not in stored["data"]


def _training(stored: dict[str, Any]) -> dict[str, Any]:
    whole = {name: value for name, value in completed(stored).items() if name not in _ELSEWHERE}
    train = whole.pop("train")
    augment = train.pop("augment") or {}  # None is what follows the data set
    flat = whole | {f"train.{name}": value for name, value in train.items() if name not in _HARDWARE}
    return flat | {f"augment.{name}": value for name, value in augment.items()}


def training_of(recipe: Recipe) -> dict[str, Any]:
    """Give a recipe's training in the form of `Pool.training`.

    Args:
        recipe: The recipe.

    Returns:
        The fields that matter.
    """
    return _training(to_json(recipe))


def _setting(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    names = {"base": (), WEIGHTS: (), "fgsm": ("radius",), "pgd": ("radius",), "r": ("eps", "p", "where")}
    return {name: settings[name] for name in names.get(method, tuple(settings))}


def _key(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True)
