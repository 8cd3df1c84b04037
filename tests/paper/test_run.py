"""Every row that can be trained is trained, attacked and evaluated, at the true size of its images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from resolute.data import load
from resolute.errors import InputError
from resolute.experiment import grid
from resolute.paper.ledger import read_pools
from resolute.paper.rows import TRAINED
from resolute.paper.run import scaled, write_digits
from resolute.paper.tables import ROWS
from resolute.run_folder import read_json, read_records
from resolute.training.loop import learning_rate

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.experiment.recipe import Recipe

NETWORKS = (
    "1-r-condensenet-g8",
    "1-r-condensenet-g4",
    "2-r-nasnet-a",
    "4-r-lenet",
    "4-r-capsnet",
    "4-r-s-resnet",
    "4-r-w-resnet",
    "5-r-w-resnet-cifar10",
    "5-r-inceptionv3-cifar100",
)
"""A row of each smoke run that differs from the others in more than methods (all are run) and name."""
SLOW = ("2-r-nasnet-a", "5-r-w-resnet-cifar10", "5-r-inceptionv3-cifar100")


def test_the_runs_stand_for_all_36_rows(tmp_path: Path) -> None:
    def alike(recipe: Recipe) -> Recipe:
        return replace(scaled(recipe, "smoke", tmp_path), name="", methods=("base",), suites=("clean",))

    smoke = {row: alike(trained.recipe) for row, trained in TRAINED.items()}
    for row, other in TRAINED.items():
        stands = [ours for ours in NETWORKS if smoke[ours] == smoke[row]]
        assert any(set(other.recipe.suites) <= set(TRAINED[ours].recipe.suites) for ours in stands), row
    assert len(TRAINED) == 36


@pytest.mark.parametrize("row", [pytest.param(row, marks=pytest.mark.slow if row in SLOW else ()) for row in NETWORKS])
def test_a_network_runs_end_to_end(row: str, tmp_path: Path) -> None:
    recipe = scaled(TRAINED[row].recipe, "smoke", tmp_path)
    train = replace(recipe.train, device="cpu")
    grid.compare(replace(recipe, methods=("base", "fgsm", "r"), train=train), tmp_path / "run")
    records = read_records(tmp_path / "run/records.jsonl")
    assert {record.method for record in records} == {"base", "fgsm", "r"}
    shape = read_json(tmp_path / "run/recipe.json")["data_info"]["shape"]
    assert shape == {"mnist": [1, 28, 28], "imagenet": [3, recipe_side(row), recipe_side(row)]}.get(
        ROWS[row].data, [3, 32, 32]
    )
    assert read_json(tmp_path / "run/cells/r-seed0/cost.json")["sites"] > 0
    assert read_pools(tmp_path) == []


def recipe_side(row: str) -> int:
    return next((int(value.value) for value in ROWS[row].values if value.unit == "px"), 224)


def test_the_images_are_digits_as_an_image_folder(tmp_path: Path) -> None:
    folder = write_digits(tmp_path, 3, 32)
    train, test = load(folder, split="train+validation"), load(folder, split="test")
    assert (len(train), len(test), train.info.shape, train.info.classes) == (12, 4, (3, 32, 32), 2)
    assert load(folder, split="validation").y.shape == (1,)
    one = next((folder / "train/1").glob("*.png"))
    with Image.open(one) as image:
        assert (image.size, image.mode) == ((32, 32), "RGB")
    before = one.stat().st_mtime_ns
    assert write_digits(tmp_path, 3, 32) == folder
    assert one.stat().st_mtime_ns == before


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
