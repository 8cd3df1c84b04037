from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from resolute.report.evaluation import benchmarks
from resolute.run_folder import Record
from resolute.shifts.released import ALEXNET, SEVERITIES, corruption_errors

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
        rows = [Record("imagenet", "m", "-", 0, *key, int(right.sum()), N) for key, right in own.items()]
        wanted = corruption_errors(rows, suite, alexnet=True)
        figures = found.figures[name]
        assert figures["mean error"].mean == pytest.approx(wanted.mean)
        assert figures["mCE"].mean == pytest.approx(wanted.mce)
        assert figures["relative mCE"].mean == pytest.approx(wanted.relative)


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
