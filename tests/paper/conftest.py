from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from resolute.experiment.recipe import changed, to_json
from resolute.paper.rows import TRAINED
from resolute.run_folder import Record, write_json, write_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from resolute.run_folder import Key

CLEAN: Key = ("clean", "clean", 0.0)


@pytest.fixture
def run() -> Callable[..., None]:
    """Writes what a finished run leaves: ``run(folder, row, {"base": [50, 51], "r": [48, 50]}, n=10_000)``.

    The numbers are wrong answers for seeds 0, 1, ...; a field of the recipe, of its training or settings may be given.
    """

    def write(
        folder: Path,
        row: str,
        wrong: Mapping[str, Sequence[int]],
        *,
        n: int = 10_000,
        first_seed: int = 0,
        key: Key = CLEAN,
        train: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        start = TRAINED[row].recipe
        recipe = replace(
            start,
            name=folder.name,
            methods=tuple(wrong),
            baseline=next(iter(wrong)),
            seeds=tuple(range(first_seed, first_seed + len(next(iter(wrong.values()))))),
            settings=changed(start.settings, {"radius": 0.1, **(settings or {})}),
            train=replace(start.train, **(train or {})),
            **changes,
        )
        write_json(folder / "recipe.json", to_json(recipe) | {"data_info": {}, "command": "resolute compare"})
        records = [
            Record(recipe.data, recipe.model, method, first_seed + i, *key, n - count, n)
            for method, counts in wrong.items()
            for i, count in enumerate(counts)
        ]
        write_records(folder / "records.jsonl", records)

    return write
