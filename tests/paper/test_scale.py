from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from resolute.errors import InputError
from resolute.paper.rows import TRAINED
from resolute.paper.run import scaled
from resolute.training.loop import learning_rate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("row", TRAINED)
def test_full_is_the_recipe(row: str, tmp_path: Path) -> None:
    recipe = TRAINED[row].recipe
    assert scaled(recipe, "full", tmp_path) == replace(recipe, name=f"{row}-full")
    assert recipe.baseline == "base"
    assert len(recipe.seeds) == 5


@pytest.mark.parametrize("row", TRAINED)
def test_reduced_is_shorter_and_falls_alike(row: str, tmp_path: Path) -> None:
    full, short = TRAINED[row].recipe.train, scaled(TRAINED[row].recipe, "reduced", tmp_path).train
    assert short.epochs == max(min(full.epochs, 10), round(full.epochs / 10))
    for share in (0.05, 0.45, 0.9, 0.99):
        wanted = learning_rate(full, share * full.epochs)
        assert learning_rate(short, share * short.epochs) == pytest.approx(wanted, rel=0.05)


def test_reduced_takes_three_seeds_and_the_same_data(tmp_path: Path) -> None:
    recipe = scaled(TRAINED["5-r-w-resnet-cifar10"].recipe, "reduced", tmp_path)
    assert (recipe.seeds, recipe.data, recipe.train.milestones) == ((0, 1, 2), "cifar10", (15, 22))


def test_a_smoke_run_of_two_classes_leaves_top5_out(tmp_path: Path) -> None:
    recipe = TRAINED["1-r-condensenet-g8"].recipe
    assert recipe.suites == ("clean", "top5", "disturbances")
    assert scaled(recipe, "smoke", tmp_path).suites == ("clean", "disturbances")


def test_an_unknown_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown scale 'reducd': did you mean 'reduced'"):
        scaled(TRAINED["4-r-lenet"].recipe, "reducd", tmp_path)
