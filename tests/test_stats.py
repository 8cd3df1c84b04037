"""Intervals, p values, comparisons and verdicts, against scipy, statsmodels, plain enumeration and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from resolute import stats
from resolute.stats import Interval, Paired

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Wrong = NDArray[np.bool_]
"""Wrong answers of networks with several seeds: [seeds, n]."""


def four_sigma(rate: float, repeats: int) -> float:
    """Give four binomial standard deviations of a simulated rate."""
    return 4 * math.sqrt(rate * (1 - rate) / repeats)


def random_wrong(seed: int, seeds: int, n: int, share: float = 0.1) -> tuple[Wrong, Wrong]:
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < share
    first, second = (hard ^ (generator.random((seeds, n)) < share) for _ in range(2))
    return first, second


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


# p values


def enumerated_sign_flip(differences: Sequence[Fraction]) -> float:
    flips = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum((s * d for s, d in zip(signs, differences, strict=True)), Fraction())) for signs in flips]
    return sum(s >= abs(sum(differences, Fraction())) for s in sums) / len(sums)


@pytest.mark.parametrize("k", [1, 2, 5, 8])
@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_sign_flip_is_that_of_scipy(k: int, shift: float) -> None:
    differences = np.random.default_rng(k).normal(shift, 1, k)
    if k == 1:
        assert stats.sign_flip(differences) == 1
        return
    expected = scipy.stats.permutation_test(
        (differences, np.zeros(k)), lambda a, b: float(np.mean(a - b)), permutation_type="samples", n_resamples=10_000
    )
    assert stats.sign_flip(differences) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    "tenths",
    [
        (1, 2, -3),
        (3, -1, -2, 6),
        (7, 7, -7, 1, 6),
        (0, 0, 1, 2),
        (0, 3, 0, -3),
        (1, 2, 3, 4, 5, 6, -21),
        (-4, -5, 2, 7),
    ],
)
def test_sign_flip_counts_ties_in_spite_of_rounding(tenths: tuple[int, ...]) -> None:
    exact = enumerated_sign_flip([Fraction(t, 10) for t in tenths])
    assert stats.sign_flip([t / 10 for t in tenths]) == exact
    assert stats.sign_flip([t / 10 + 0.7 - 0.7 for t in tenths]) == exact


def test_sign_flip_of_twenty_goes_through_all_of_them_and_of_more_draws() -> None:
    assert stats.sign_flip([1.0] * 20) == 2 / 2**20
    assert stats.sign_flip([1.0] * 60) == 1 / (1 + stats.DRAWS)
    assert stats.sign_flip([1.0] * 5 + [0.0] * 500) == 2 / 2**5


@pytest.mark.parametrize(("plus", "minus"), [(18, 7), (20, 20), (60, 40)])
def test_random_sign_flips_agree_with_the_binomial(plus: int, minus: int) -> None:
    exact = scipy.stats.binomtest(plus, plus + minus).pvalue
    found = stats.sign_flip([0.1] * plus + [-0.1] * minus)
    assert found == pytest.approx(exact, abs=max(four_sigma(exact, stats.DRAWS), 1e-4))
    assert found == stats.sign_flip([-0.1] * plus + [0.1] * minus)


@pytest.mark.parametrize("only_a", [0, 1, 5, 12, 200])
@pytest.mark.parametrize("only_b", [0, 1, 5, 30, 230])
def test_mcnemar_is_that_of_statsmodels(only_a: int, only_b: int) -> None:
    expected = reference_mcnemar([[50, only_a], [only_b, 60]], exact=True).pvalue if only_a + only_b else 1.0
    assert stats.mcnemar(only_a, only_b) == pytest.approx(expected)


@pytest.mark.parametrize("n", [40, 90])
def test_clustered_mcnemar_of_one_seed_and_few_images_is_the_exact_one(n: int) -> None:
    a, b = random_wrong(4, 1, n)
    assert 2 < (a != b).sum() <= stats.EXACT
    assert stats.mcnemar_clustered(a, b) == pytest.approx(stats.mcnemar(int((a & ~b).sum()), int((b & ~a).sum())))


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_clustered_mcnemar_of_one_seed_is_the_asymptotic_one_of_statsmodels(share: float) -> None:
    a, b = random_wrong(2, 1, 1000, share)
    table = [[(a & b).sum(), (a & ~b).sum()], [(b & ~a).sum(), (~a & ~b).sum()]]
    expected = reference_mcnemar(table, exact=False, correction=False).pvalue
    assert stats.mcnemar_clustered(a, b) == pytest.approx(expected)


def test_clustered_mcnemar_of_few_images_enumerates_them() -> None:
    a, b = random_wrong(1, 3, 18)
    per_image = [Fraction(sum(int(a[s, i]) - int(b[s, i]) for s in range(3))) for i in range(18)]
    assert sum(d != 0 for d in per_image) == 5
    assert stats.mcnemar_clustered(a, b) == enumerated_sign_flip([d for d in per_image if d])


@pytest.mark.parametrize("seed", range(3))
def test_clustered_mcnemar_of_many_images_follows_from_the_t_statistic(seed: int) -> None:
    n = 800
    a, b = random_wrong(seed, 5, n)
    t = float(scipy.stats.ttest_1samp(a.sum(axis=0).astype(float) - b.sum(axis=0), 0).statistic)
    z = abs(t) / math.sqrt((n - 1 + t * t) / n)  # t has the variance about the mean, z the one about zero
    assert stats.mcnemar_clustered(a, b) == pytest.approx(2 * scipy.stats.norm.sf(z))


@pytest.mark.parametrize("n", [60, 1000])
def test_copies_of_one_network_prove_no_more_than_it_does(n: int) -> None:
    a, b = random_wrong(6, 1, n)
    once = stats.mcnemar_clustered(a, b)
    assert 0 < once < 1
    assert stats.mcnemar_clustered(a.repeat(5, axis=0), b.repeat(5, axis=0)) == pytest.approx(once)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [1, 2, 7, 30])
def test_holm_is_that_of_statsmodels(seed: int, m: int) -> None:
    p = np.random.default_rng(seed).random(m) ** 4
    p[: m // 3] = p[0]
    adjusted = stats.holm(p)
    np.testing.assert_allclose(adjusted, multipletests(p, method="holm")[1])
    assert np.all(adjusted >= p)
    assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)
    assert adjusted.max() <= 1


def test_holm_leaves_comparisons_that_were_not_made_out_of_the_count() -> None:
    np.testing.assert_allclose(stats.holm([math.nan, 0.02, math.nan, 0.01]), [math.nan, 0.02, math.nan, 0.02])
    assert stats.holm([]).shape == (0,)


# Comparisons and verdicts


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


# What a verdict promises, by simulation


def networks(generator: np.random.Generator, centre: NDArray[np.float64], seed_sd: float, sd: float) -> Wrong:
    """Wrong where a latent difficulty of the image, moved by the seed and by chance, exceeds 2."""
    seeds = generator.normal(0, seed_sd, size=(5, 1))
    return centre + seeds + generator.normal(0, sd, size=(5, centre.size)) > 2


def claims(draw: Callable[[np.random.Generator], tuple[Wrong, Wrong]], repeats: int) -> tuple[float, float]:
    """How often p and p_both are 0.05 or less."""
    generator = np.random.default_rng(0)
    found = [stats.compare_paired(*draw(generator)) for _ in range(repeats)]
    return float(np.mean([f.p <= 0.05 for f in found])), float(np.mean([f.p_both <= 0.05 for f in found]))


def test_false_claims_when_only_the_seeds_are_new() -> None:
    generator = np.random.default_rng(1)
    half, tilt = generator.normal(size=200), generator.normal(0, 0.5, size=200)
    on_a, on_b = np.concatenate([half + tilt, half - tilt]), np.concatenate([half - tilt, half + tilt])

    p, both = claims(lambda g: (networks(g, on_a, 0.3, 0.3), networks(g, on_b, 0.3, 0.3)), 1500)
    assert p <= 0.05 + four_sigma(0.05, 1500)  # 0.0725
    assert both <= 0.05 + four_sigma(0.05, 1500)


def test_false_claims_when_only_the_images_are_new() -> None:
    abilities = np.random.default_rng(1).normal(0, 0.3, size=(5, 1))

    def draw(g: np.random.Generator) -> tuple[Wrong, Wrong]:
        a, b = (g.normal(size=400) + abilities[order] > 1.5 for order in (slice(None), slice(None, None, -1)))
        return a, b

    p, both = claims(draw, 1500)
    assert p <= 0.05 + four_sigma(0.05, 1500)
    assert both <= 0.05 + four_sigma(0.05, 1500)


@pytest.mark.parametrize(("seed_sd", "image_sd", "sd"), [(0.05, 0.3, 0.3), (0.1, 0.5, 0.3), (0.2, 1.0, 0.1)])
def test_false_claims_when_seeds_and_images_are_new(seed_sd: float, image_sd: float, sd: float) -> None:
    """In the last case both kinds of luck are of one size: p_seeds and p_images together err in 8 % of such cases."""

    def draw(g: np.random.Generator) -> tuple[Wrong, Wrong]:
        difficulty = g.normal(size=360)
        a, b = (networks(g, difficulty + g.normal(0, image_sd, size=360), seed_sd, sd) for _ in range(2))
        return a, b

    p, both = claims(draw, 1500)
    assert p <= both <= 0.05 + four_sigma(0.05, 1500)


def test_a_clear_difference_is_seen() -> None:
    def draw(g: np.random.Generator) -> tuple[Wrong, Wrong]:
        difficulty = g.normal(size=1000)
        return networks(g, difficulty - 0.5, 0.1, 0.3), networks(g, difficulty, 0.1, 0.3)  # errors 0.8 % and 2.8 %

    p, both = claims(draw, 400)
    assert p > 0.9
    assert both > 0.9


@pytest.mark.parametrize("n", [1, 5, 6, 7, 10, 41, 200])
def test_the_interval_of_a_median_is_scipy_s(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    found = stats.median_interval(values)
    theirs: Any = scipy.stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    assert found.mean == np.median(values)
    np.testing.assert_equal((found.low, found.high), (theirs.low, theirs.high))
