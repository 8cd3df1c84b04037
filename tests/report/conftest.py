"""A believable run directory: image difficulty is shared, so methods and seeds are correlated as real ones are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from resolute.run_folder import Record, cell_name, write_atomic, write_bits, write_json, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.run_folder import Key

KEYS: tuple[Key, ...] = (
    ("clean", "clean", 0.0),
    *(("noise", "gaussian-noise", severity) for severity in (0.1, 0.2, 0.3)),
    *(("fgsm", "fgsm", radius) for radius in (0.03, 0.1)),
)


@dataclass(frozen=True)
class Plan:
    """What to fabricate."""

    methods: tuple[str, ...] = ("base", "fgsm", "r")
    baseline: str = "base"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    keys: tuple[Key, ...] = KEYS
    n: int = 360
    epochs: int = 12
    unfinished: tuple[tuple[str, int], ...] = ()
    data: str = "digits"
    class_names: tuple[str, ...] = tuple("0123456789")


def _hardness(method: str, key: Key) -> float:
    suite, _, severity = key
    kind = {"fgsm": 1, "r": 2}.get(method, 0)
    if suite == "clean":
        return (-2.1, -2.15, -2.3)[kind]
    slope = (14.0, 5.0, 9.0)[kind] if suite == "fgsm" else (6.0, 5.5, 4.5)[kind]
    return (-2.1, -2.15, -2.3)[kind] + slope * severity


def _bits(plan: Plan, method: str, seed: int) -> dict[Key, NDArray[np.bool_]]:
    image = np.random.default_rng(7).normal(size=plan.n)
    pair = np.random.default_rng((11, seed)).normal(size=plan.n)
    level = 0.06 * np.random.default_rng((17, seed)).normal()
    bits = {}
    for key in plan.keys:
        own = np.random.default_rng((13, seed, *map(ord, f"{method} {key}"))).normal(size=plan.n)
        bits[key] = 0.85 * image + 0.3 * pair + 0.4 * own + _hardness(method, key) + level < 0
    return bits


def _curves(plan: Plan, method: str, seed: int) -> str:
    noise = np.random.default_rng((19, seed, *map(ord, method)))
    offset = {"fgsm": 0.35, "r": 0.12}.get(method, 0.05)
    lines = ["epoch,lr,loss,train_error,validation_error,step_ms,seconds"]
    for epoch in range(1, plan.epochs + 1):
        loss = offset + 2.2 * np.exp(-epoch / 2.5) + 0.02 * noise.random()
        error = 0.02 + offset / 10 + 0.8 * np.exp(-epoch / 1.7) + 0.01 * noise.random()
        validation = f"{error + 0.015:.5f}" if epoch % 2 == 0 else ""
        lines.append(f"{epoch},{0.1 * (1 - epoch / plan.epochs):.5f},{loss:.5f},{error:.5f},{validation},2.9,1.5")
    return "\n".join(lines) + "\n"


def _recipe(plan: Plan) -> dict[str, Any]:
    return {
        "name": "compare",
        "data": plan.data,
        "data_dir": None,
        "size": None,
        "model": "lenet",
        "methods": list(plan.methods),
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "settings": {"eps": 0.1, "p": 0.5, "where": "hidden", "radius": 0.1},
        "suites": ["clean", "noise", "fgsm"],
        "split": "test",
        "train": {"epochs": plan.epochs, "batch_size": 64, "lr": 0.1, "schedule": "cosine", "ema": None},
        "data_info": {"name": plan.data, "classes": 10, "shape": [1, 8, 8], "class_names": list(plan.class_names)},
        "command": f"resolute compare --data {plan.data} --model lenet --seeds {len(plan.seeds)}",
    }


def _write_cell(folder: Path, plan: Plan, method: str, seed: int) -> list[Record]:
    bits = _bits(plan, method, seed)
    records = [
        Record(plan.data, "lenet", method, seed, *key, correct=int(right.sum()), n=plan.n)
        for key, right in bits.items()
    ]
    cell = folder / "cells" / cell_name(method, seed)
    passes = 3.0 if method == "fgsm" else 1.0
    write_atomic(cell / "train.csv", _curves(plan, method, seed))
    write_bits(cell / "bits.npz", bits)
    write_json(cell / "cost.json", {"passes": passes, "parameters": 431080, "sites": 4})
    if (method, seed) not in plan.unfinished:
        write_records(cell / "records.jsonl", records)
        return records
    return []


def _times(plan: Plan) -> dict[str, Any]:
    """Ten pairs of steps, with a ratio between 0.99 and 1.01 times its middle."""
    base, spread = [3.1 + 0.05 * at for at in range(-5, 5)], [1 + 0.01 * (at % 3 - 1) for at in range(10)]
    ratios = {method: {"fgsm": 2.58, "r": 1.01}.get(method, 1.0) for method in plan.methods if method != plan.baseline}
    return {
        method: {
            "ms": [ms * ratio * own for ms, own in zip(base, spread, strict=True)],
            "baseline_ms": base, "load": 1.5, "cores": 2,
        }
        for method, ratio in ratios.items()
    }  # fmt: skip


def build_run(folder: Path, plan: Plan) -> Path:
    records = [
        record for method in plan.methods for seed in plan.seeds for record in _write_cell(folder, plan, method, seed)
    ]
    write_json(folder / "recipe.json", _recipe(plan))
    write_json(
        folder / "environment.json",
        {"resolute": "0.1.0", "python": "3.11.9", "torch": "2.8.0", "cpu": "A processor", "cores": 2, "gpu": None},
    )
    write_json(folder / "timing.json", {"methods": _times(plan)})
    write_records(folder / "records.jsonl", records)
    return folder


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """Build a run directory at a path; keyword arguments change the plan."""
    return lambda folder, **changes: build_run(folder, dataclasses.replace(Plan(), **changes))


@pytest.fixture
def make_run(tmp_path: Path, build: Callable[..., Path]) -> Callable[..., Path]:
    """The same, in the test's own folder."""
    return lambda name="run", **changes: build(tmp_path / name, **changes)
