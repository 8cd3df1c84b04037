from __future__ import annotations

import math

import pytest

from resolute.errors import InputError
from resolute.run_folder import Record
from resolute.shifts.imagenet_c import CORRUPTIONS
from resolute.shifts.released import ALEXNET, ALEXNET_CLEAN, corruption_errors, from_means

RESNET50 = {
    "gaussian_noise": 80, "shot_noise": 82, "impulse_noise": 83, "defocus_blur": 75, "glass_blur": 89,
    "motion_blur": 78, "zoom_blur": 80, "snow": 78, "frost": 75, "fog": 66, "brightness": 57, "contrast": 71,
    "elastic_transform": 85, "pixelate": 77, "jpeg_compression": 77,
}  # fmt: skip
"""CE in percent of ResNet-50 in the authors' Table 1, whose mCE is 76.7."""


def records(errors: dict[str, list[int]], suite: str = "corruptions", n: int = 1000) -> list[Record]:
    clean = Record("d", "m", "base", 0, "clean", "clean", 0.0, 750, n)
    return [clean] + [
        Record("d", "m", "base", 0, suite, name, float(severity), n - wrong, n)
        for name, row in errors.items()
        for severity, wrong in enumerate(row, start=1)
    ]


def test_there_is_a_figure_for_each_corruption() -> None:
    assert list(ALEXNET) == list(CORRUPTIONS)


def test_alexnet_is_one() -> None:
    figures = from_means(ALEXNET, ALEXNET_CLEAN, alexnet=True)
    assert figures.mce == pytest.approx(1)
    assert figures.relative == pytest.approx(1)


def test_the_published_mce_of_resnet_50_comes_out() -> None:
    errors = {name: ce / 100 * ALEXNET[name] for name, ce in RESNET50.items()}
    assert 100 * from_means(errors, 0.2385, alexnet=True).mce == pytest.approx(76.7, abs=0.35)


def test_records_are_summed_up_by_hand() -> None:
    rows = {name: [100 + 10 * i, 200, 300, 400, 500] for i, name in enumerate(ALEXNET)}
    figures = corruption_errors(records(rows), "corruptions", alexnet=True)
    means = {name: (1500 + 10 * i) / 5000 for i, name in enumerate(ALEXNET)}
    assert figures.clean == 0.25
    assert figures.by_corruption == pytest.approx(means)
    assert figures.mean == pytest.approx(sum(means.values()) / 15)
    assert figures.mce == pytest.approx(sum(means[name] / ALEXNET[name] for name in means) / 15)
    relative = [(means[name] - 0.25) / (ALEXNET[name] - ALEXNET_CLEAN) for name in means]
    assert figures.relative == pytest.approx(sum(relative) / 15)


def test_for_cifar_there_is_the_plain_mean_alone() -> None:
    rows = {name: [100] * 5 for name in ALEXNET}
    figures = corruption_errors(records(rows, "cifar10-c"), "cifar10-c", alexnet=False)
    assert figures.mean == pytest.approx(0.1)
    assert math.isnan(figures.mce)
    assert math.isnan(figures.relative)


def test_other_suites_and_held_out_corruptions_do_not_count() -> None:
    rows = {name: [100] * 5 for name in ALEXNET}
    more = records({"fog": [900] * 5}, "imagenet-c")[1:] + records({"spatter": [900] * 5})[1:]
    assert corruption_errors(records(rows) + more, "corruptions", alexnet=False).mean == pytest.approx(0.1)


def test_without_clean_images_there_is_no_relative_figure() -> None:
    figures = corruption_errors(records({name: [100] * 5 for name in ALEXNET})[1:], "corruptions", alexnet=True)
    assert math.isnan(figures.clean)
    assert math.isnan(figures.relative)
    assert not math.isnan(figures.mce)


def test_a_missing_severity_is_named() -> None:
    rows = {name: [100] * (4 if name == "fog" else 5) for name in ALEXNET if name != "snow"}
    with pytest.raises(InputError, match="lacks severities of snow, fog; the mean is over five of all 15"):
        corruption_errors(records(rows), "corruptions", alexnet=True)


def test_two_networks_are_refused() -> None:
    rows = {name: [100] * 5 for name in ALEXNET}
    with pytest.raises(InputError, match="gaussian_noise, severity 1, is there twice"):
        corruption_errors(records(rows) * 2, "corruptions", alexnet=True)
