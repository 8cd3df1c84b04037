from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from filelock import FileLock

from cases import TINY
from resolute.config import Settings
from resolute.evaluation import measure as engine
from resolute.experiment import cell as one_cell
from resolute.experiment.cell import load_splits, run_cell, run_identity, time_steps
from resolute.experiment.grid import compare
from resolute.report.run import load_run, run_facts
from resolute.run_folder import cell_name, read_sealed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

    from resolute.training.loop import Job

RECIPE = replace(TINY, methods=("base",), seeds=(0,), suites=("clean", "noise", "fgsm"))


class Killed(BaseException):
    """What ends the process, here."""


@pytest.mark.parametrize("at", [0, 5, 13])
def test_a_cell_killed_in_its_evaluation_continues_at_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """898 images in two batches under seven shifts."""
    predict, shown, killing = engine.predict, list[int](), False

    def counted(model: nn.Module, x: Tensor) -> Tensor:
        if len(x) > engine.PROBE:
            if killing and len(shown) == at:
                raise Killed
            shown.append(len(x))
        return predict(model, x)

    monkeypatch.setattr(engine, "predict", counted)
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(engine, "SAVES_SHARE", 0)
    compare(RECIPE, tmp_path / "whole")
    assert shown == [500, 398] * 7
    shown.clear()
    killing = True
    with pytest.raises(Killed):
        compare(RECIPE, tmp_path / "out")
    killing = False
    compare(RECIPE, tmp_path / "out")
    assert shown == [500, 398] * 7, "no batch twice"
    files = {path.name for path in (tmp_path / "out/cells/base-seed0").iterdir()}
    assert files == {path.name for path in (tmp_path / "whole/cells/base-seed0").iterdir()}
    for name in ("records.jsonl", "bits.npz", "weights.safetensors"):
        again, whole = (tmp_path / folder / "cells/base-seed0" / name for folder in ("out", "whole"))
        assert again.read_bytes() == whole.read_bytes()


def test_a_lock_that_somebody_holds_is_no_error(tmp_path: Path) -> None:
    cell = tmp_path / "run/cells/base-seed0"
    (tmp_path / "run/.locks").mkdir(parents=True)
    splits = load_splits(RECIPE)
    with FileLock(tmp_path / "run/.locks/base-seed0"):
        assert not run_cell(
            RECIPE.resolved(splits.test.info.augment, splits.test.info.radius), splits, "base", 0, tmp_path / "run"
        )
    assert not cell.exists()


def test_released_arrays_that_were_changed_make_another_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESOLUTE_DATA", str(tmp_path))
    (tmp_path / "CIFAR-10-C").mkdir()
    array = np.zeros((5, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "CIFAR-10-C/fog.npy", array)
    splits, released = load_splits(RECIPE), replace(RECIPE, suites=("clean", "cifar10-c"))
    before, without = run_identity(released, splits), run_identity(RECIPE, splits)
    np.save(tmp_path / "CIFAR-10-C/fog.npy", array + 1)
    assert run_identity(released, splits) != before
    assert run_identity(RECIPE, splits) == without, "where no released suite is asked for, its files do not matter"


def test_steps_are_timed_in_turn_without_the_first_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps take seconds, as those do that build a kernel; then one of r takes 1.5 times as long."""
    order: list[str] = []

    def steps(_model: nn.Module, job: Job) -> Iterator[float]:
        for at in itertools.count():
            order.append(job.method.name)
            yield 5000.0 if at < 3 else {"base": 2.0, "r": 3.0, "fgsm": 5.0}[job.method.name]

    monkeypatch.setattr(one_cell, "step_times", steps)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    summary = compare(replace(TINY, seeds=(0,)), tmp_path)
    assert order.count("base") == order.count("r") == 43
    assert all({*order[at : at + 2]} == {"base", "r"} for at in range(0, 86, 2))
    assert order[0::2].count("base") in (21, 22), "each begins as often"
    assert summary.costs["r"].ratio.mean == summary.costs["r"].ratio.low == 1.5
    assert summary.costs["base"].step_ms == 2
    order.clear()
    compare(replace(TINY, seeds=(0,)), tmp_path)
    assert order == [], "what was timed is kept"
    grown = compare(replace(TINY, methods=("base", "r", "fgsm"), seeds=(0,)), tmp_path)
    assert set(order) == {"base", "fgsm"}
    assert (grown.costs["r"].ratio.mean, grown.costs["fgsm"].ratio.mean) == (1.5, 2.5)


def test_the_eps_that_was_found_is_in_the_cell_and_in_the_report(tmp_path: Path) -> None:
    settings = Settings(eps="auto", ratio=0.4)
    recipe = replace(TINY, methods=("base", "r", "gaussian@ratio=1"), seeds=(0, 1), settings=settings)
    compare(recipe, tmp_path)
    run = load_run(tmp_path)
    found = dict[tuple[str, int], Any]()
    for method in recipe.methods:
        for seed in recipe.seeds:
            cell = tmp_path / "cells" / cell_name(method, seed)
            found[method, seed] = read_sealed(cell / "cost.json").get("eps")
            assert read_sealed(cell / "model.json").get("eps") == found[method, seed]
    assert [found["base", seed] for seed in (0, 1)] == [None, None]
    assert found["r", 0] != found["r", 1], "each network has its own weights"
    assert max(found["r", 0], found["r", 1]) < min(found["gaussian@ratio=1", 0], found["gaussian@ratio=1", 1])
    low, high = sorted((found["r", 0], found["r", 1]))
    assert ("eps, r", f"{low:g} to {high:g}") in run_facts(run)["Network"]
    assert not any(name == "eps, base" for name, _ in run_facts(run)["Network"])
    assert run.recipe["settings"]["eps"] == "auto"
    assert run.recipe["settings"]["ratio"] == 0.4
    compare(recipe, tmp_path)
    assert "eps, r" in (tmp_path / "report.html").read_text()


def test_slow_steps_are_timed_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_cell, "SECONDS", 0.0)
    splits = load_splits(RECIPE)
    recipe = replace(RECIPE, methods=("base", "r")).resolved(splits.test.info.augment, splits.test.info.radius)
    time_steps(recipe, splits, tmp_path)
    found = read_sealed(tmp_path / "timing.json")["methods"]["r"]
    assert len(found["ms"]) == len(found["baseline_ms"]) == 6
    assert min(*found["ms"], *found["baseline_ms"]) > 0
    several = replace(recipe, train=replace(recipe.train, devices=2))
    time_steps(several, splits, tmp_path / "several")
    assert not (tmp_path / "several").exists()


def test_two_networks_that_do_not_fit_have_no_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_model: nn.Module, _job: Job) -> Iterator[float]:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(one_cell, "step_times", full)
    summary = compare(replace(TINY, seeds=(0,)), tmp_path)
    assert "No cost is given: no steps were timed side by side." in summary.limits
