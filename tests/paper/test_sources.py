from __future__ import annotations

import json

import pytest

from resolute.experiment.recipe import from_json, to_json
from resolute.paper.sizes import SIZES
from resolute.paper.sources import SOURCES, Source
from resolute.training.loop import learning_rate

PUBLISHED = {
    "capsnet-mnist": 0.35,
    "capsnet-decoder-mnist": 0.25,
    "resnet152-sd-svhn": 1.75,
    "wrn-16-8-svhn": 1.54,
    "wrn-28-10-erasing-cifar10": 3.08,
    "wrn-28-10-erasing-cifar100": 17.73,
    "condensenet-g8-imagenet": 29.0,
    "condensenet-g4-imagenet": 26.2,
    "nasnet-a-large-imagenet": 100 - 82.7,
    "senet-154-imagenet": 100 - 82.7,
    "inception-v1-imagenet": 100 - 69.8,
    "mobilenet-v1-imagenet": 100 - 70.6,
    "shufflenet-v1-2x-imagenet": 100 - 70.9,
}
"""Errors of the base rows as their sources print them, some as accuracies."""

every = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@every
def test_a_source_is_complete(source: Source) -> None:
    recipe = source.recipe
    assert recipe.name.endswith(recipe.data)
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe
    assert source.where
    assert all(deviation.endswith(".") for deviation in source.deviations)
    assert ("smoothing" in source.loss) == (recipe.train.label_smoothing > 0)
    assert ("margin" in source.loss) == recipe.model.startswith("capsnet")


def test_every_network_of_the_tables_has_one() -> None:
    trained = {source.recipe.model.partition("-drop")[0] for source in SOURCES.values()}
    others = {"lenet-caffe"}  # in no table
    assert {name for name in SIZES if not name.endswith("-condensed")} - others <= trained


def test_errors_are_those_that_are_published() -> None:
    assert {name: SOURCES[name].error for name in PUBLISHED} == pytest.approx(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("resnet152-sd-svhn", {0: 0.1, 29: 0.1, 30: 0.01, 35: 0.001, 49: 0.001}),
        ("resnet110-sd-cifar10", {0: 0.1, 250: 0.01, 375: 0.001}),
        ("wrn-16-8-svhn", {0: 0.01, 80: 0.001, 120: 0.0001}),
        ("wrn-28-10-cifar100", {0: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("wrn-28-10-erasing-cifar10", {0: 0.1, 150: 0.01, 225: 0.001, 299: 0.001}),
        ("inception-v3-cifar100", {0.5: 0.05, 1: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("capsnet-mnist", {0: 1e-3, 2000 / 468: 0.96e-3, 20000 / 468: 0.96**10 * 1e-3, 640: 2.25e-6}),
        ("condensenet-g8-imagenet", {0: 0.1, 60: 0.05, 120: 0}),
        ("nasnet-a-large-imagenet", {0: 1.5, 2.3: 1.5, 2.4: 1.455, 4.8: 1.41135}),
        ("senet-154-imagenet", {0: 0.6, 30: 0.06, 60: 0.006, 99: 0.0006}),
        ("inception-v3-imagenet", {0: 0.045, 1.9: 0.045, 2: 0.0423}),
        ("shufflenet-v1-2x-imagenet", {0: 0.5, 120: 0.25, 240: 0}),
    ],
)
def test_rates_fall_when_the_source_says_so(name: str, moments: dict[float, float]) -> None:
    train = SOURCES[name].recipe.train
    assert [learning_rate(train, done) for done in moments] == pytest.approx(list(moments.values()), rel=0.03, abs=1e-9)
