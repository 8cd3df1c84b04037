from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resolute.report.evaluation import benchmarks
from resolute.shifts.released import ALEXNET, ALEXNET_CLEAN, SEVERITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from resolute.run_folder import Key

N = 400


def answers(suite: str, share: float) -> dict[Key, NDArray[np.bool_]]:
    """Right answers at random, of a network that is right about so many images."""
    generator = np.random.default_rng(round(100 * share))
    keys: list[Key] = [("clean", "clean", 0.0)]
    keys += [(suite, name, severity) for name in ALEXNET for severity in SEVERITIES]
    return {key: generator.random(N) < share for key in keys}


@pytest.mark.parametrize("suite", ["corruptions", "imagenet-c"])
def test_the_figures_are_those_of_the_counts(suite: str) -> None:
    bits = {"a": answers(suite, 0.7), "b": answers(suite, 0.2)}
    [found] = benchmarks(bits, "imagenet")
    for name, own in bits.items():
        wrong = {key: 1 - right.mean() for key, right in own.items()}
        clean = wrong["clean", "clean", 0.0]
        errors = {kind: sum(wrong[suite, kind, severity] for severity in SEVERITIES) / 5 for kind in ALEXNET}
        figures = found.figures[name]
        assert figures["mean error"].mean == pytest.approx(sum(errors.values()) / 15)
        assert figures["mCE"].mean == pytest.approx(sum(errors[kind] / ALEXNET[kind] for kind in ALEXNET) / 15)
        relative = [(errors[kind] - clean) / (ALEXNET[kind] - ALEXNET_CLEAN) for kind in ALEXNET]
        assert figures["relative mCE"].mean == pytest.approx(sum(relative) / 15)


RESNET50 = {
    "gaussian_noise": 80, "shot_noise": 82, "impulse_noise": 83, "defocus_blur": 75, "glass_blur": 89,
    "motion_blur": 78, "zoom_blur": 80, "snow": 78, "frost": 75, "fog": 66, "brightness": 57, "contrast": 71,
    "elastic_transform": 85, "pixelate": 77, "jpeg_compression": 77,
}  # fmt: skip
"""CE in percent of ResNet-50 in the authors' Table 1, whose mCE is 76.7."""


@pytest.mark.parametrize(
    ("errors", "clean", "mce"),
    [(ALEXNET, ALEXNET_CLEAN, 100), ({kind: ce / 100 * ALEXNET[kind] for kind, ce in RESNET50.items()}, 0.2385, 76.7)],
    ids=["AlexNet", "ResNet-50"],
)
def test_the_published_mce_comes_out(errors: dict[str, float], clean: float, mce: float) -> None:
    shares = {("clean", "clean", 0.0): clean}
    shares |= {("imagenet-c", kind, severity): errors[kind] for kind in ALEXNET for severity in SEVERITIES}
    bits = {key: np.arange(10_000) >= round(10_000 * share) for key, share in shares.items()}
    [found] = benchmarks({"a": bits}, "imagenet")
    assert 100 * found.figures["a"]["mCE"].mean == pytest.approx(mce, abs=0.35)
    assert mce < 100 or found.figures["a"]["relative mCE"].mean == pytest.approx(1, abs=0.001)


def test_without_one_severity_there_is_no_figure() -> None:
    bits = answers("imagenet-c", 0.7)
    del bits["imagenet-c", "fog", 3]
    assert benchmarks({"a": bits}, "imagenet") == ()


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Every answer of an image is the same one: an image is one independent unit, however many shifts it meets."""
    held = 0
    for trial in range(300):
        right = np.random.default_rng(trial).random(N) < 0.7
        same = dict.fromkeys(answers("cifar10-c", 0.5), right)
        interval = benchmarks({"a": same}, "cifar10")[0].figures["a"]["mean error"]
        held += interval.low <= 0.3 <= interval.high
    assert abs(held / 300 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 300)


def test_other_data_has_the_plain_mean_alone() -> None:
    bits = answers("corruptions", 0.7)
    [found] = benchmarks({"a": bits}, "cifar10")
    mean = np.mean([~right for (suite, _, _), right in bits.items() if suite == "corruptions"])
    assert list(found.figures["a"]) == ["mean error"]
    assert found.told("a").startswith(f"mean error {100 * mean:.2f} % (")


def test_a_suite_that_is_not_whole_has_no_figure() -> None:
    bits = answers("corruptions", 0.7)
    del bits["corruptions", "fog", 3.0]
    assert benchmarks({"a": bits}, "imagenet") == ()
