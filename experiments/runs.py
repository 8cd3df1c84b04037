"""Read the errors of a run of `resolute compare` from its records."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.run_folder import read_json, read_records

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def read(run: Path) -> tuple[dict[str, Any], dict[tuple[str, str], NDArray[np.float64]]]:
    """Give the recipe, and for each (method, suite) the error in % of each seed, the mean over the suite's shifts."""
    recipe = read_json(run / "recipe.json")
    wrong: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for record in read_records(run / "records.jsonl"):
        wrong[record.method, record.suite, record.seed].append(100 * record.error)
    return recipe, {
        (method, suite): np.array([np.mean(wrong[method, suite, seed]) for seed in recipe["seeds"]])
        for method in recipe["methods"]
        for suite in recipe["suites"]
    }
