"""Intervals of a share and of a mean over seeds, against scipy, statsmodels and the chances themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from resolute import stats
from stats.draws import four_sigma


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 360), (7, 360), (359, 360), (360, 360), (9871, 10_000)])
def test_wilson_is_that_of_statsmodels(correct: int, n: int, level: float) -> None:
    interval = stats.wilson(correct, n, level)
    low, high = proportion_confint(correct, n, alpha=1 - level, method="wilson")
    assert interval.mean == correct / n
    assert interval.low == pytest.approx(low, abs=1e-12)
    assert interval.high == pytest.approx(high, abs=1e-12)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1


def test_wilson_of_the_wrong_answers_mirrors_that_of_the_right_ones() -> None:
    right, wrong = stats.wilson(351, 360), stats.wilson(9, 360)
    assert (right.low, right.high) == pytest.approx((1 - wrong.high, 1 - wrong.low))


@pytest.mark.parametrize("n", [100, 360, 2000])
def test_wilson_covers_the_truth_as_often_as_it_says(n: int) -> None:
    bounds = [stats.wilson(k, n) for k in range(n + 1)]
    low, high = np.array([b.low for b in bounds]), np.array([b.high for b in bounds])
    truths = np.linspace(0.005, 0.3, 200)[:, None]
    chances = scipy.stats.binom.pmf(np.arange(n + 1), n, truths)
    coverage = (chances * ((low <= truths) & (truths <= high))).sum(axis=1)  # exact: no simulation, no tolerance
    assert coverage.mean() == pytest.approx(0.95, abs=0.006)
    assert coverage.min() > 0.89


@pytest.mark.parametrize("level", [0.5, 0.95])
@pytest.mark.parametrize("k", [2, 3, 5, 40])
def test_mean_t_is_that_of_scipy(k: int, level: float) -> None:
    values = np.random.default_rng(k).normal(3, 2, k)
    interval = stats.mean_t(values, level)
    expected = scipy.stats.t.interval(level, k - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert interval.mean == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    interval = stats.mean_t([0.25])
    assert interval.mean == 0.25
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_mean_t_covers_the_truth_as_often_as_it_says() -> None:
    samples = np.random.default_rng(1).normal(7, 3, size=(5000, 5))
    inside = [(i := stats.mean_t(sample)).low <= 7 <= i.high for sample in samples]
    assert np.mean(inside) == pytest.approx(0.95, abs=four_sigma(0.95, 5000))  # 0.0123


@pytest.mark.parametrize("k", [2, 5, 12])
def test_paired_t_is_that_of_scipy(k: int) -> None:
    generator = np.random.default_rng(k)
    a, b = generator.normal(0.3, 1, k), generator.normal(0, 1, k)
    interval, p = stats.paired_t(a - b, level=0.9)
    expected = scipy.stats.ttest_rel(a, b)
    bounds = expected.confidence_interval(0.9)
    assert p == pytest.approx(expected.pvalue)
    assert (interval.low, interval.high) == pytest.approx((bounds.low, bounds.high))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.0], 1.0),
        ([0.1], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
        ([0.1] * 5, 2 / 32),
        ([-0.1] * 5, 2 / 32),
        ([0.3 - 0.2, 0.1, 0.8 - 0.7], 2 / 8),  # equal but for rounding
    ],
)
def test_paired_t_where_t_has_no_value(differences: list[float], p: float) -> None:
    interval, found = stats.paired_t(differences)
    assert found == p
    assert interval.mean == pytest.approx(differences[0])
    if len(differences) > 1:
        assert interval.low == interval.mean == interval.high


def test_the_interval_of_an_error_stays_in_range() -> None:
    low, high = stats.error_interval([0.0, 0.05], 100), stats.error_interval([1.0, 0.95], 100)
    assert stats.mean_t([0.0, 0.05]).low < low.low == 0.0
    assert stats.mean_t([1.0, 0.95]).high > high.high == 1.0
    assert stats.error_interval([0.2, 0.3, 0.25], 100) == stats.mean_t([0.2, 0.3, 0.25])


def test_the_interval_of_one_seeds_error_is_that_of_its_images() -> None:
    assert stats.error_interval([0.02], 100) == stats.wilson(2, 100)
    several = stats.error_interval([0.015], 100)  # over two shifts: 1 and 2 of 100
    assert several.mean == 0.015
    assert several.low <= 0.015 <= several.high
