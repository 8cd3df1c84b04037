"""Networks whose errors are made up, so that what a search among them should do is known."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from resolute.config import Settings, TrainConfig
from resolute.evaluation.measure import records
from resolute.experiment import recipe
from resolute.experiment.cell import is_finished, run_identity
from resolute.experiment.recipe import TuneConfig
from resolute.methods import settings_of
from resolute.report.tuning import strength_of
from resolute.run_folder import cell_identity, cell_name, seal, write_bits, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = recipe.Recipe(
    name="tiny",
    data="digits",
    model="lenet",
    train=TrainConfig(epochs=1, batch_size=64, device="cpu"),
    seeds=(0, 1, 2, 3, 4),
    suites=("clean",),
)
PLAN = TuneConfig(TINY, eps=(0.1, 0.5), trials=10)
KEY, N = ("clean", "clean", 0.0), 4000


def quiet() -> Console:
    return Console(file=io.StringIO())


def made_up(error: Callable[[Settings], float], made: list[tuple[str, int]]) -> Callable[..., None]:
    """Make up cells: base errs at 10 %, with a seed's own luck, variants as a function of their settings says."""

    def fill(recipe: Any, splits: Any, out: Path, **_: object) -> None:
        for method, seed in recipe.cells:
            cell = out / "cells" / cell_name(method, seed)
            own = cell_identity(run_identity(recipe, splits), method, seed)
            if is_finished(cell, own):
                continue
            made.append((method, seed))
            mean = 0.1 if method == "base" else error(settings_of(method, Settings()))
            rng, luck = np.random.default_rng(seed), np.random.default_rng([seed, len(method)]).normal(0, 1e-3)
            right = rng.random(N) >= mean + luck
            write_bits(cell / "bits.npz", {KEY: right})
            rows = records({KEY: right}, data="digits", model="lenet", method=method, seed=seed)
            write_records(cell / "records.jsonl", rows)
            seal(cell, own, ("bits.npz", "records.jsonl"))

    return fill


def helps_at_input(settings: Settings) -> float:
    harm = 0.05 * strength_of(settings)
    return 0.1 - harm if settings.where == "input" else 0.1 + harm
