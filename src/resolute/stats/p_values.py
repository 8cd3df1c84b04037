"""Tests over seeds, over images, and over many comparisons at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from resolute.stats.checking import finite, require
from resolute.stats.intervals import TIE, mean_t, variance_of_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from resolute.stats.intervals import Interval

EXACT = 20
"""Differences up to which a sign-flip test goes through all assignments: 2^20 sums, 40 ms."""
DRAWS = 100_000
"""Random assignments beyond: the smallest p is 1e-5, the standard error at p = 0.05 is 0.0007."""


def sign_flip(differences: ArrayLike) -> float:
    """Test that differences are symmetric about zero by flipping their signs (Fisher's randomisation test, 1935).

    p is the share of all 2^k assignments of signs whose sum is at least as far from zero as the one seen, up to
    rounding. Zeros are dropped: each doubles both counts. With more than `EXACT` differences left, `DRAWS` random
    assignments, always the same, stand in for all: p = (1 + as far) / (1 + draws) (Phipson and Smyth 2010).

    Args:
        differences: One for each independent pair, shape [k].

    Returns:
        p, in (0, 1]; at least 2 / 2^k. 1 if all differences are zero.

    >>> sign_flip([0.1, 0.2, 0.1, 0.4, 0.3])
    0.0625
    """
    numbers = finite(differences)
    numbers = numbers[numbers != 0]
    bound = abs(float(numbers.sum())) - TIE * float(np.abs(numbers).sum())
    if numbers.size <= EXACT:
        sums = np.zeros(1)
        for number in numbers:
            sums = np.concatenate([sums + number, sums - number])
        return float(np.mean(np.abs(sums) >= bound))
    generator, sums = np.random.default_rng(0), np.zeros(DRAWS)
    for number in numbers:
        sums += generator.choice([-number, number], DRAWS)
    return float((1 + np.count_nonzero(np.abs(sums) >= bound)) / (1 + DRAWS))


def paired_t(differences: ArrayLike, level: float = 0.95) -> tuple[Interval, float]:
    """Test that a mean difference over seeds is zero, by Student's paired t test.

    Where t has no value: equal differences give an interval of width 0 and the p of `sign_flip` (1 if they are zero),
    as k equal numbers prove no more than k equal signs; one seed gives NaN bounds and p = 1.

    Args:
        differences: Method minus baseline for each seed, shape [k].
        level: Confidence of the interval.

    Returns:
        The interval of `mean_t`, and p in [0, 1].
    """
    numbers = finite(differences)
    return mean_t(numbers, level), t_test(numbers, variance_of_mean(numbers), numbers.size - 1)


def mcnemar(only_a: int, only_b: int) -> float:
    """Test that two networks err equally often on the same images: McNemar's test (1947), exact.

    Given that only one of the two errs, each is as likely: ``only_a ~ Binomial(only_a + only_b, 1/2)``.

    Args:
        only_a: Images that only the first got wrong.
        only_b: Images that only the second got wrong.

    Returns:
        p, in [0, 1]; 1 if they never disagree.

    >>> mcnemar(1, 9)
    0.021484375
    """
    require(min(only_a, only_b) >= 0, "counts cannot be negative", (only_a, only_b))
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def mcnemar_clustered(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> float:
    """Test that two methods, trained with several seeds, err equally often; the images are the independent units.

    Image i counts once, by ``d_i = sum over seeds (wrong_a - wrong_b)``. Up to `EXACT` images with d_i other than zero,
    the sign-flip test of d_i; beyond, ``sum d_i / sqrt(sum d_i^2)`` is normal (Obuchowski 1998, Durkalski et al. 2003).
    With one seed these are McNemar's tests, exact and asymptotic without continuity correction.

    Args:
        wrong_a: Where the first method erred, bool, shape [seeds, n] or [seeds, shifts, n].
        wrong_b: The same for the second.

    Returns:
        p, in [0, 1]; 1 if no image makes a difference.
    """
    d = disagreements(wrong_a, wrong_b).sum(axis=0)
    if np.count_nonzero(d) <= EXACT:
        return sign_flip(d)
    return math.erfc(abs(int(d.sum())) / math.sqrt(2 * int((d * d).sum())))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values so that all claims of a table together are wrong with probability alpha at most (Holm 1979).

    The j-th smallest of m is multiplied by m - j + 1, made no smaller than the one before, and cut at 1. A NaN is a
    comparison that was not made: it stays NaN and does not count in m, as in R's ``p.adjust``.

    Args:
        p_values: In [0, 1] or NaN, shape [m].

    Returns:
        Adjusted p values in the same order.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    require(p.ndim == 1 and not np.any((p < 0) | (p > 1)), "p values are a row of numbers in [0, 1]", p)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)))
    return adjusted


def t_test(numbers: NDArray[np.float64], variance: float, df: float) -> float:
    """Test that a mean is zero.

    Args:
        numbers: Shape [k].
        variance: Of their mean.
        df: Degrees of freedom.

    Returns:
        p, in [0, 1]; that of `sign_flip` where the variance is 0.
    """
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(numbers.mean()) / math.sqrt(variance))) if variance else sign_flip(numbers)


def disagreements(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count by seed and image the shifts under which only the first erred, less those under which only the second did.

    Args:
        a: Where the first erred, shape [seeds, n] or [seeds, shifts, n].
        b: The same for the second.

    Returns:
        Shape [seeds, n].
    """
    require(a.dtype == b.dtype == bool, "wrong answers are bool arrays", (a.dtype, b.dtype))
    fits = a.shape == b.shape and a.ndim in (2, 3) and a.size > 0
    require(fits, "both need one shape [seeds, n] or [seeds, shifts, n]", (a.shape, b.shape))
    d: NDArray[np.int64] = (a.astype(np.int64) - b).reshape(len(a), -1, a.shape[-1]).sum(axis=1)
    return d
