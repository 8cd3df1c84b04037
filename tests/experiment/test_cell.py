from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from filelock import FileLock

from cases import TINY
from resolute.evaluation import measure as engine
from resolute.experiment.cell import load_splits, run_cell, run_identity
from resolute.experiment.grid import compare

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

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
