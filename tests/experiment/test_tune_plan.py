from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from resolute import methods
from resolute.config import Settings
from resolute.data.dataset import fingerprint
from resolute.errors import InputError
from resolute.experiment import recipe
from resolute.experiment.cell import load_splits
from resolute.experiment.recipe import TUNABLE, TuneConfig
from resolute.experiment.tune import search_folder, variant

if TYPE_CHECKING:
    from pathlib import Path

PLAN = TuneConfig(recipe.digits())


def test_the_test_set_is_out_of_reach() -> None:
    leaky = replace(recipe.digits(), hold_out=False)
    assert (TuneConfig(leaky).held_out.split, TuneConfig(leaky).held_out.hold_out) == ("validation", True)


@pytest.mark.parametrize("method", TUNABLE)
@pytest.mark.parametrize("settings", [Settings(), Settings(0.25, 0.7, "input"), Settings(1e-05, 0.5, "relu*")])
def test_a_name_is_read_back_as_its_settings(method: str, settings: Settings) -> None:
    name = variant(method, settings)
    assert methods.settings_of(name, Settings()) == settings
    assert methods.find_method(name).name == name


def test_the_grid_has_every_place_at_every_eps() -> None:
    plan = replace(PLAN, eps=(0.1, 0.2), where=("input", "both"))
    assert plan.grid == [(0.1, "input"), (0.1, "both"), (0.2, "input"), (0.2, "both")]


def folder(plan: TuneConfig) -> Path:
    return search_folder(plan, load_splits(plan.held_out))


def test_more_trials_or_another_disk_is_the_same_study() -> None:
    moved = replace(PLAN.recipe, data_dir="elsewhere")
    same = replace(PLAN, recipe=moved, trials=99, timeout=5.0, jobs=4, margin=0.1)
    others = [replace(PLAN, method="dropout"), replace(PLAN, eps=(0.1,)), replace(PLAN, where=("input",))]
    others.append(replace(PLAN, recipe=replace(PLAN.recipe, seeds=(0, 1))))
    splits = load_splits(PLAN.held_out)
    assert search_folder(same, splits) == search_folder(PLAN, splits)
    assert len({search_folder(plan, splits) for plan in [PLAN, *others]}) == 5
    assert search_folder(PLAN, splits).name.startswith("tune-digits-")
    swapped = replace(splits.train, y=9 - splits.train.y)
    other = replace(splits, fingerprints={**splits.fingerprints, "train": fingerprint(swapped)})
    assert search_folder(PLAN, other) != search_folder(PLAN, splits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "gausian"}, "unknown method 'gausian': did you mean 'gaussian'"),
        ({"method": "fgsm"}, "Those have an eps and a site to be tuned"),
        ({"eps": (0.1, 1.0)}, "eps is 1.0; it must be at least 0 and below 1"),
        ({"eps": ()}, "at least one strength"),
        ({"where": ()}, "at least one site"),
        ({"trials": 0}, "trials is 0; it must be at least 1"),
        ({"margin": 0}, "margin is 0; it must be above 0 and below 100"),
        ({"timeout": 0}, "timeout is 0; it must be a number of seconds above 0"),
        ({"jobs": 0}, "jobs is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_tuned_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PLAN, **change)
