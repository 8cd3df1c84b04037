from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from torch import nn

from cases import tiny_info
from resolute import models
from resolute.config import Augment, Settings, TrainConfig
from resolute.data import DATASETS
from resolute.errors import InputError
from resolute.experiment.recipe import RECIPES, Recipe, changed, completed, customary, from_json, identity, to_json
from resolute.shifts import find_shifts

FULL = Recipe(
    name="all",
    data="digits",
    model="lenet",
    data_dir="somewhere",
    size=32,
    methods=("base", "r+fgsm"),
    seeds=(3, 1),
    settings=Settings(0.3, 0.4, "relu*", 0.2, grain="channel", spread="random", share=0.5, eps_schedule="ramp"),
    suites=("fgsm",),
    split="validation",
    train=TrainConfig(
        epochs=7,
        schedule="step",
        milestones=(3, 5),
        augment=Augment(shift=2, padding="reflect", flip=True, erase=0.25),
        ema=0.99,
        devices=2,
        precision="bf16-mixed",
    ),
)


@pytest.mark.parametrize("recipe", [FULL, *(make() for make in RECIPES.values())], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


def test_every_field_is_stored() -> None:
    stored = to_json(FULL)
    assert stored.keys() == {field.name for field in dataclasses.fields(Recipe)}
    assert stored["train"].keys() == {field.name for field in dataclasses.fields(TrainConfig)}
    form = {"grain": "channel", "spread": "random", "share": 0.5, "eps_schedule": "ramp", "ratio": None}
    assert stored["settings"] == {"eps": 0.3, "p": 0.4, "where": "relu*", "radius": 0.2, **form}


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_can_be_run(name: str) -> None:
    recipe = RECIPES[name]()
    assert recipe.name == name
    assert recipe.methods == ("base", "fgsm", "r")
    assert find_shifts(recipe.suites, tiny_info())
    assert models.build(recipe.model, classes=10)
    assert recipe.data in DATASETS or name in ("images", "finetune")
    assert len(recipe.cells) == len(recipe.methods) * len(recipe.seeds)


def test_the_data_choose_the_recipe() -> None:
    assert customary("digits") == RECIPES["digits"]()
    assert customary("mnist") == RECIPES["mnist"]()
    assert customary("some/folder") == RECIPES["images"]()


def test_an_eps_takes_the_place_of_a_recipe_s_ratio() -> None:
    assert changed(RECIPES["digits"](), {}).settings.ratio == 2.5
    assert changed(RECIPES["digits"](), {"ratio": 1.0}).settings == Settings(ratio=1.0)
    assert changed(RECIPES["digits"](), {"eps": 0.3, "p": 0.4}).settings == Settings(eps=0.3, p=0.4)
    assert changed(RECIPES["digits"](), {"eps": "auto"}).settings.ratio == 2.5
    with pytest.raises(InputError, match=r"ratio is 0.5 and eps 0.3"):
        changed(RECIPES["digits"](), {"eps": 0.3, "ratio": 0.5})


def test_methods_alternate_so_that_a_slow_hour_slows_all_of_them() -> None:
    assert FULL.cells == [("base", 3), ("r+fgsm", 3), ("base", 1), ("r+fgsm", 1)]


def test_radius_and_augmentation_follow_the_data() -> None:
    plain = dataclasses.replace(FULL, settings=Settings(), train=TrainConfig())
    customs = (Augment(shift=3), 0.2)
    assert plain.resolved(*customs).settings.radius == 0.2
    assert plain.resolved(*customs).train.augment == Augment(shift=3)
    assert FULL.resolved(*customs) == FULL
    auto = dataclasses.replace(plain, settings=Settings(eps="auto")).resolved(*customs)
    assert (auto.settings.eps, auto.settings.ratio) == ("auto", 0.5)
    assert from_json(json.loads(json.dumps(to_json(auto)))) == auto
    assert plain.resolved(*customs).resolved(Augment(), 0.5) == plain.resolved(*customs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("base", "fsgm")}, "unknown method 'fsgm': did you mean 'fgsm'"),
        ({"methods": ("r", "fgsm")}, "methods are r, fgsm; .* the baseline \\(base\\) among them"),
        ({"methods": ("base", "r", "r")}, "methods are base, r, r; each must stand there once"),
        ({"methods": ("base", "r@eps=0.3", "r@eps=0.30")}, "r@eps=0.3, r@eps=0.30; each must stand there once"),
        (
            {"methods": ("base", "r@eps=0.3", "r"), "settings": Settings(0.3)},
            "r@eps=0.3 and r are one and the same with these",
        ),
        ({"methods": ("base", "r+fgsm", "fgsm+r")}, "each must stand there once"),
        ({"methods": ()}, "each must stand there once, and the baseline"),
        ({"baseline": "r"}, "the baseline \\(r\\) among them"),
        ({"seeds": ()}, "seeds are \\(\\); there must be at least one"),
        ({"seeds": (0, 0)}, "seeds are \\(0, 0\\); .* each once"),
        ({"seeds": (-1,)}, "seeds is \\(-1,\\); it must be from 0 to"),
        ({"split": "train"}, "split is 'train'; it must be one of test, validation."),
        ({"hold_out": False}, "must not be trained on them: hold_out=True"),
        ({"settings": Settings(where=nn.ReLU)}, "a recipe's where is text"),
        (
            {"train": TrainConfig(freeze="bn")},
            "freeze is 'bn' and backbone_lr_scale 1, and nothing is pretrained: give",
        ),
        ({"train": TrainConfig(backbone_lr_scale=0.1)}, "backbone_lr_scale 0.1, and nothing is pretrained"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(FULL, **change)


def test_weights_and_the_hub_imply_pretrained_and_a_path_is_no_identity() -> None:
    plain = dataclasses.replace(FULL, model="timm/test_resnet")
    here, there = (dataclasses.replace(plain, weights=path) for path in ("here/w.pth", "there/w.pth"))
    published = dataclasses.replace(plain, pretrained=True)
    assert here.pretrained
    assert dataclasses.replace(plain, model="hf-hub:some/one").pretrained
    assert identity(here) == identity(there) == identity(published) != identity(plain)
    assert from_json(json.loads(json.dumps(to_json(here)))) == here


@pytest.mark.parametrize("lost", ["methods", "train", "settings", "data"])
def test_a_recipe_of_another_version_is_refused(lost: str) -> None:
    stored = to_json(FULL)
    with pytest.raises(InputError, match=r"this is not a recipe of this version .* Run again into an empty folder"):
        from_json({key: value for key, value in stored.items() if key != lost})
    with pytest.raises(InputError, match="not a recipe of this version"):
        from_json(stored | {"novelty": 1})
    with pytest.raises(InputError, match="not a recipe of this version"):
        from_json(stored | {"train": {**stored["train"], "novelty": 1}})


def test_an_older_recipe_is_completed_at_every_depth() -> None:
    plain = dataclasses.replace(FULL, settings=Settings(radius=0.1), train=dataclasses.replace(FULL.train, ema=0.0))
    whole = json.loads(json.dumps(to_json(plain)))
    older = json.loads(json.dumps(whole))
    del (
        older["hold_out"],
        older["settings"]["p"],
        older["settings"]["eps_schedule"],
        older["train"]["ema"],
        older["train"]["augment"]["rotation"],
    )
    assert completed(older) == whole
    del older["train"]["update_bn"]
    assert completed(older)["train"] == whole["train"] | {"update_bn": False}, "what was not known was not done"
    assert completed({"train": None, "other": 1})["other"] == 1


def test_a_variant_has_one_name_however_it_is_written() -> None:
    written = Recipe("x", "digits", "lenet", TrainConfig(), methods=("fgsm+r@eps=.30", "base"))
    assert written.methods == ("r+fgsm@eps=0.3", "base")
    assert dataclasses.replace(written, methods=("r+fgsm@eps=0.30", "base")) == written
    radii = dataclasses.replace(written, methods=("base", "fgsm", "fgsm@radius=0.2"))
    with pytest.raises(InputError, match=r"methods fgsm and fgsm@radius=0\.2 are one and the same"):
        radii.resolved(Augment(), 0.2)
