"""The comparison of two networks over paired seeds, its verdict, and what is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.stats

from resolute import stats
from resolute.stats import Interval, Paired
from stats.draws import random_wrong

if TYPE_CHECKING:
    from collections.abc import Callable

    from stats.draws import Wrong


def test_compare_paired_by_hand() -> None:
    a = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    b = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=bool)
    found = stats.compare_paired(a, b, level=0.9)
    t = scipy.stats.ttest_1samp([-0.25, -0.5, -0.5], 0)
    bounds = t.confidence_interval(0.9)
    assert found.difference.mean == pytest.approx(-5 / 12)
    assert (found.difference.low, found.difference.high) == pytest.approx((bounds.low, bounds.high))
    assert found.p_seeds == pytest.approx(t.pvalue)
    assert found.p_sign_flip == 2 / 8
    assert found.p_images == 2 / 8  # the images differ by -1, -3, -1, 0
    assert found.p == max(found.p_seeds, found.p_images, found.p_both) >= 2 / 8
    assert found.relative == pytest.approx(-5 / 7)


@pytest.mark.parametrize("seed", range(4))
def test_swapping_the_two_turns_the_sign_and_nothing_else(seed: int) -> None:
    a, b = random_wrong(seed, 5, 300)
    one, other = stats.compare_paired(a, b), stats.compare_paired(b, a)
    assert one.difference.mean == -other.difference.mean
    assert (one.difference.low, one.difference.high) == pytest.approx((-other.difference.high, -other.difference.low))
    for name in ("p_seeds", "p_sign_flip", "p_images", "p", "p_both"):
        assert getattr(one, name) == getattr(other, name)
        assert 0 < getattr(one, name) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_p_both_is_clarks_min_f(seed: int) -> None:
    a, b = random_wrong(seed, 5, 300)
    d = a.astype(float) - b
    f_seeds, f_images = (scipy.stats.ttest_1samp(d.mean(axis=axis), 0).statistic ** 2 for axis in (1, 0))
    df = (f_seeds + f_images) ** 2 / (f_seeds**2 / 299 + f_images**2 / 4)
    expected = scipy.stats.f.sf(f_seeds * f_images / (f_seeds + f_images), 1, df)
    assert stats.compare_paired(a, b).p_both == pytest.approx(expected)


def test_several_shifts_are_one_error_a_seed_and_one_sum_an_image() -> None:
    a, b = np.random.default_rng(0).random((2, 5, 3, 80)) < 0.3
    found, flat = stats.compare_paired(a, b), stats.compare_paired(a.reshape(5, -1), b.reshape(5, -1))
    assert found.difference == flat.difference
    assert (found.p_seeds, found.p_sign_flip, found.relative) == (flat.p_seeds, flat.p_sign_flip, flat.relative)
    assert found.p_images == stats.mcnemar_clustered(a.reshape(-1, 80), b.reshape(-1, 80))
    d = a.mean(axis=1) - b.mean(axis=1)
    f_seeds, f_images = (scipy.stats.ttest_1samp(d.mean(axis=axis), 0).statistic ** 2 for axis in (1, 0))
    df = (f_seeds + f_images) ** 2 / (f_seeds**2 / 79 + f_images**2 / 4)
    assert found.p_both == pytest.approx(scipy.stats.f.sf(f_seeds * f_images / (f_seeds + f_images), 1, df))


def constant(value: bool, seeds: int = 5, n: int = 30) -> Wrong:
    return np.full((seeds, n), value)


def test_nothing_is_claimed_where_nothing_differs() -> None:
    found = stats.compare_paired(constant(False), constant(False))
    assert found.difference == Interval(0, 0, 0)
    assert found.p == found.p_both == found.p_sign_flip == 1
    assert math.isnan(found.relative)
    assert stats.compare_paired(constant(True), constant(True)).relative == 0


def test_equal_differences_prove_no_more_than_their_signs() -> None:
    found = stats.compare_paired(constant(False), constant(True))
    assert found.difference == Interval(-1, -1, -1)
    assert found.p == found.p_seeds == found.p_both == 2 / 32
    assert found.p_images < 1e-6


@pytest.mark.parametrize(("seeds", "n"), [(1, 30), (5, 1), (1, 1)])
def test_one_seed_or_one_image_claims_nothing(seeds: int, n: int) -> None:
    found = stats.compare_paired(constant(False, seeds, n), constant(True, seeds, n))
    assert found.difference.mean == -1
    assert math.isnan(found.difference.low) == (seeds == 1)
    assert found.p == found.p_both == 1


PAIRED = Paired(Interval(-0.02, -0.03, -0.01), 0.01, 0.0625, 0.001, 0.01, 0.02, -0.1)


@pytest.mark.parametrize(
    ("difference", "p", "expected"),
    [
        (PAIRED, 0.05, "better"),
        (PAIRED, 0.051, "no difference seen"),
        (PAIRED, math.nan, "no difference seen"),
        (-0.1, 0.01, "better"),
        (0.1, 0.01, "worse"),
        (0.1, 0.2, "no difference seen"),
        (0.0, 0.01, "no difference seen"),
    ],
)
def test_verdict(difference: Paired | float, p: float, expected: str) -> None:
    assert stats.verdict(difference, p) == expected


def test_verdict_goes_by_alpha() -> None:
    assert stats.verdict(-0.1, 0.01, alpha=0.005) == "no difference seen"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.wilson(3, 2), r"0 <= correct <= n and n >= 1; got \(3, 2\)"),
        (lambda: stats.wilson(-1, 2), "correct"),
        (lambda: stats.wilson(0, 0), "n >= 1"),
        (lambda: stats.wilson(1, 2, level=95), "0.95 for 95 %; got 95"),
        (lambda: stats.mean_t([0.1, 0.2], level=1), "level"),
        (lambda: stats.mean_t([]), "finite numbers"),
        (lambda: stats.mean_t([0.1, math.nan]), "finite numbers"),
        (lambda: stats.sign_flip([[0.1]]), "a row of"),
        (lambda: stats.paired_t([math.inf, 1]), "finite numbers"),
        (lambda: stats.mcnemar(-1, 3), "negative"),
        (lambda: stats.holm([0.1, 1.2]), r"\[0, 1\]"),
        (lambda: stats.holm([[0.1, 0.2]]), "a row of"),
        (lambda: stats.holm([-0.1]), r"\[0, 1\]"),
        (lambda: stats.mcnemar_clustered(constant(True), constant(True, 4)), r"one shape .*\(5, 30\), \(4, 30\)"),
        (lambda: stats.compare_paired(constant(True)[0], constant(True)[0]), "one shape"),
        (lambda: stats.compare_paired(constant(True, 5, 0), constant(True, 5, 0)), "one shape"),
        (lambda: stats.compare_paired(constant(True).astype(int), constant(True)), "bool"),
    ],
)
def test_what_cannot_be_used_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
