"""Intervals, paired tests over seeds and over images, and many tests at once, from counts.

An error is a share of wrong answers, in [0, 1]; a difference is method minus baseline: below zero is better. Every p
is two-sided, every ``level`` a confidence in (0, 1). Arguments out of range, empty or not finite raise ValueError.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def _require(fits: bool, wanted: str, came: object) -> None:
    """Refuse an argument."""
    if not fits:
        raise ValueError(f"{wanted}; got {came}")


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    """Take a row of numbers."""
    row = np.asarray(values, dtype=np.float64)
    _require(row.ndim == 1 and row.size > 0 and bool(np.isfinite(row).all()), "a row of finite numbers is wanted", row)
    return row


TIE = 1e-9
"""Numbers that differ by less than this share of their size are the same, rounded differently."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence bounds.

    Attributes:
        mean: The estimate.
        low: Lower bound; NaN where there is no interval.
        high: Upper bound; NaN where there is no interval.
    """

    mean: float
    low: float
    high: float


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """Bound a share by Wilson's score interval (1927), which stays in [0, 1] and holds near its ends too.

    With q = correct / n and z the normal quantile, the bounds solve ``|q - s| = z sqrt(s (1 - s) / n)`` for s.

    Args:
        correct: Hits, in [0, n]; give the wrong answers for an interval of the error.
        n: Trials, at least 1.
        level: Confidence.

    Returns:
        The share and its bounds.

    Example:
        >>> round(wilson(9, 10).low, 3)
        0.596
    """
    _require(0 <= correct <= n and n >= 1, "a share needs 0 <= correct <= n and n >= 1", (correct, n))
    z = NormalDist().inv_cdf(_upper(level))
    share = correct / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def mean_t(values: ArrayLike, level: float = 0.95) -> Interval:
    """Bound a mean over seeds by Student's t interval: ``mean ± t sd / sqrt(k)``, k - 1 degrees of freedom.

    Args:
        values: One number for each seed, shape [k].
        level: Confidence.

    Returns:
        Mean and bounds. One seed says nothing about the next: its bounds are NaN. Equal values give width 0.

    Example:
        >>> interval = mean_t([1.0, 2.0, 3.0])
        >>> round(interval.low, 2), interval.mean, round(interval.high, 2)
        (-0.48, 2.0, 4.48)
    """
    from scipy.special import stdtrit

    numbers, quantile = _finite(values), _upper(level)
    mean, half = float(numbers.mean()), math.nan
    if numbers.size > 1:
        half = float(stdtrit(numbers.size - 1, quantile)) * math.sqrt(_variance_of_mean(numbers))
    return Interval(mean, mean - half, mean + half)


def median_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Bound a median by two of the values in their order, whatever their distribution (the inverted sign test).

    The bounds are the j-th value from either end, with the largest j for which ``P(Binomial(n, 1/2) < j)`` is at most
    ``(1 - level) / 2``.

    Args:
        values: Numbers, shape [n].
        level: Confidence.

    Returns:
        The median and its bounds; NaN bounds where there are too few values, five at 95 % say.

    Example:
        >>> median_interval([1.0, 1.1, 0.9, 1.2, 1.0, 5.0])
        Interval(mean=1.05, low=0.9, high=5.0)
    """
    from scipy.special import bdtr

    row = np.sort(_finite(values))
    j = int(np.count_nonzero(bdtr(np.arange(row.size), row.size, 0.5) <= 1 - _upper(level)))
    low, high = (float(row[j - 1]), float(row[-j])) if j else (math.nan, math.nan)
    return Interval(float(np.median(row)), low, high)


def error_interval(over_seeds: ArrayLike, n: int, level: float = 0.95) -> Interval:
    """Bound an error: over seeds by `mean_t` cut to [0, 1], with one seed over its images by `wilson`.

    Args:
        over_seeds: Mean error of each seed in [0, 1], shape [k].
        n: Images; each counts once, however many shifts it was shown under, so that the interval is not too narrow.
        level: Confidence.

    Returns:
        The mean and its bounds, which hold it.

    Example:
        >>> error_interval([0.02], 100).high > error_interval([0.02], 1000).high
        True
    """
    interval = mean_t(over_seeds, level)
    mean = interval.mean
    if math.isnan(interval.low):
        interval = wilson(round(mean * n), n, level)
        return Interval(mean, min(mean, interval.low), max(mean, interval.high))
    return Interval(mean, max(0.0, interval.low), min(1.0, interval.high))


def _variance_of_mean(numbers: NDArray[np.float64]) -> float:
    """Estimate the variance of a mean."""
    same = np.ptp(numbers) <= TIE * np.abs(numbers).max()
    return 0.0 if same else float(numbers.var(ddof=1)) / numbers.size


def _upper(level: float) -> float:
    _require(0 < level < 1, "a confidence level lies in (0, 1), 0.95 for 95 %", level)
    return (1 + level) / 2


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

    Example:
        >>> sign_flip([0.1, 0.2, 0.1, 0.4, 0.3])
        0.0625
    """
    numbers = _finite(differences)
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

    Example:
        >>> interval, p = paired_t([-0.02, -0.03, -0.01])
        >>> round(interval.mean, 3), round(p, 3)
        (-0.02, 0.074)
    """
    numbers = _finite(differences)
    return mean_t(numbers, level), _t_test(numbers, _variance_of_mean(numbers), numbers.size - 1)


def mcnemar(only_a: int, only_b: int) -> float:
    """Test that two networks err equally often on the same images: McNemar's test (1947), exact.

    Given that only one of the two errs, each is as likely: ``only_a ~ Binomial(only_a + only_b, 1/2)``.

    Args:
        only_a: Images that only the first got wrong.
        only_b: Images that only the second got wrong.

    Returns:
        p, in [0, 1]; 1 if they never disagree.

    Example:
        >>> mcnemar(1, 9)
        0.021484375
    """
    _require(min(only_a, only_b) >= 0, "counts cannot be negative", (only_a, only_b))
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def mcnemar_clustered(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> float:
    """Test that two methods, trained with several seeds, err equally often; the images are the independent units.

    Image i counts once, by ``d_i = sum over seeds (wrong_a - wrong_b)``. Up to `EXACT` images with d_i other than zero,
    the sign-flip test of d_i; beyond, ``sum d_i / sqrt(sum d_i^2)`` is normal (Obuchowski 1998, Durkalski et al. 2003).
    With one seed these are McNemar's tests, exact and asymptotic without continuity correction.

    Args:
        wrong_a: Where the first method erred, bool, shape [seeds, n] or [seeds, shifts, n].
        wrong_b: The same for the second, same shape.

    Returns:
        p, in [0, 1]; 1 if no image makes a difference.

    Example:
        >>> a, b = np.array([[True, False, False]]), np.array([[False, False, False]])
        >>> mcnemar_clustered(a, b)
        1.0
    """
    d = _disagreements(wrong_a, wrong_b).sum(axis=0)
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

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    _require(p.ndim == 1 and not np.any((p < 0) | (p > 1)), "p values are a row of numbers in [0, 1]", p)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1)))
    return adjusted


def _t_test(numbers: NDArray[np.float64], variance: float, df: float) -> float:
    """Test that a mean is zero."""
    from scipy.special import stdtr

    return 2 * float(stdtr(df, -abs(numbers.mean()) / math.sqrt(variance))) if variance else sign_flip(numbers)


def _disagreements(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count by seed and image the shifts under which only the first erred, minus those where only the second did."""
    _require(a.dtype == b.dtype == bool, "wrong answers are bool arrays", (a.dtype, b.dtype))
    fits = a.shape == b.shape and a.ndim in (2, 3) and a.size > 0
    _require(fits, "both need one shape [seeds, n] or [seeds, shifts, n]", (a.shape, b.shape))
    d: NDArray[np.int64] = (a.astype(np.int64) - b).reshape(len(a), -1, a.shape[-1]).sum(axis=1)
    return d


Verdict = Literal["better", "worse", "no difference seen"]


@dataclass(frozen=True, slots=True)
class Paired:
    """One method against the baseline: same seeds, same images.

    Attributes:
        difference: Mean over seeds of the method's error minus the baseline's, in [-1, 1], and its t interval.
        p_seeds: Paired t test: does it hold for new seeds on these images?
        p_sign_flip: Exact test over seeds; never below 2 / 2^seeds (0.0625 with five), so reported, not decided by.
        p_images: Clustered McNemar test: does it hold for new images with these trained networks?
        p_both: Clark's min F': does it hold for new seeds and new images at once?
        p: The largest of ``p_seeds``, ``p_images`` and ``p_both``, which the verdict goes by.
        relative: Change of the mean error as a share of the baseline's; NaN where the baseline makes no error.
    """

    difference: Interval
    p_seeds: float
    p_sign_flip: float
    p_images: float
    p_both: float
    p: float
    relative: float


def compare_paired(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_], level: float = 0.95) -> Paired:
    """Compare a method with the baseline on the same seeds and images.

    The verdict's p is the largest of three, an intersection-union test (Berger 1982): a difference is claimed only if
    it holds over new seeds (on these images), over new images (with these networks), and over both at once.

    Args:
        wrong_a: Where the method erred, bool, shape [seeds, n], or [seeds, shifts, n] for their mean error.
        wrong_b: The same for the baseline, same shape: same seeds, shifts and images.
        level: Confidence of the interval over seeds.

    Returns:
        Difference, p values and relative change. With one seed p is 1: nothing is claimed about new seeds.

    Example:
        >>> errs = np.array([[True, False, False, False], [True, True, False, False]])
        >>> compare_paired(errs, ~errs).difference.mean
        -0.25
    """
    d = _disagreements(wrong_a, wrong_b)
    over_seeds = d.sum(axis=1) / (answers := wrong_a[0].size)
    difference, p_seeds = paired_t(over_seeds, level)
    p_images, p_both = mcnemar_clustered(wrong_a, wrong_b), _min_f(over_seeds, d.mean(axis=0) * d.shape[1] / answers)
    baseline = float(wrong_b.mean())
    return Paired(
        difference=difference,
        p_seeds=p_seeds,
        p_sign_flip=sign_flip(over_seeds),
        p_images=p_images,
        p_both=p_both,
        p=max(p_seeds, p_images, p_both),
        relative=difference.mean / baseline if baseline else math.nan,
    )


def verdict(difference: Paired | float, p_adjusted: float, alpha: float = 0.05) -> Verdict:
    """Say in words what a comparison showed; a lower error is better.

    Args:
        difference: The comparison, or just the method's error minus the baseline's.
        p_adjusted: Its p after `holm`; NaN (not tested) claims nothing.
        alpha: Largest p that is called a difference; 0.05 by the field's custom.

    Returns:
        ``"better"``, ``"worse"`` or ``"no difference seen"``, which does not mean that there is none.

    Example:
        >>> verdict(-0.02, 0.01), verdict(-0.02, 0.2)
        ('better', 'no difference seen')
    """
    mean = difference.difference.mean if isinstance(difference, Paired) else difference
    if mean == 0 or not p_adjusted <= alpha:
        return "no difference seen"
    return "better" if mean < 0 else "worse"


def _min_f(over_seeds: NDArray[np.float64], over_images: NDArray[np.float64]) -> float:
    """Clark's min F' (1973): ``t = D / sqrt(V_seeds + V_images)``, Satterthwaite's degrees of freedom."""
    if min(over_seeds.size, over_images.size) == 1:
        return 1.0
    seeds, images = _variance_of_mean(over_seeds), _variance_of_mean(over_images)
    inverse_df = seeds**2 / (over_seeds.size - 1) + images**2 / (over_images.size - 1)
    return _t_test(over_seeds, seeds + images, (seeds + images) ** 2 / inverse_df if inverse_df else math.inf)
