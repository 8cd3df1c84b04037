"""Sign flips, McNemar and Holm, against scipy, statsmodels or plain enumeration."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from resolute import stats
from stats.draws import four_sigma, random_wrong

if TYPE_CHECKING:
    from collections.abc import Sequence


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
