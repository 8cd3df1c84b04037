"""Intervals of a share, of a mean over seeds, and of an error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from resolute.stats.checking import finite, require

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

TIE = 1e-9
"""Numbers that differ by less than this share of their size are the same, rounded differently."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence bounds, which are NaN where there is no interval."""

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

    >>> round(wilson(9, 10).low, 3)
    0.596
    """
    require(0 <= correct <= n and n >= 1, "a share needs 0 <= correct <= n and n >= 1", (correct, n))
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
    """
    from scipy.special import stdtrit

    numbers, quantile = finite(values), _upper(level)
    mean, half = float(numbers.mean()), math.nan
    if numbers.size > 1:
        half = float(stdtrit(numbers.size - 1, quantile)) * math.sqrt(variance_of_mean(numbers))
    return Interval(mean, mean - half, mean + half)


def error_interval(over_seeds: ArrayLike, n: int, level: float = 0.95) -> Interval:
    """Bound an error: over seeds by `mean_t` cut to [0, 1], with one seed over its images by `wilson`.

    Args:
        over_seeds: Mean error of each seed in [0, 1], shape [k].
        n: Images; each counts once, however many shifts it was shown under, so that the interval is not too narrow.
        level: Confidence.

    Returns:
        The mean and its bounds, which hold it.

    >>> error_interval([0.02], 100).high > error_interval([0.02], 1000).high
    True
    """
    interval = mean_t(over_seeds, level)
    mean = interval.mean
    if math.isnan(interval.low):
        interval = wilson(round(mean * n), n, level)
        return Interval(mean, min(mean, interval.low), max(mean, interval.high))
    return Interval(mean, max(0.0, interval.low), min(1.0, interval.high))


def variance_of_mean(numbers: NDArray[np.float64]) -> float:
    """Estimate the variance of a mean.

    Args:
        numbers: At least two, shape [k].

    Returns:
        Their sample variance over k; 0 for numbers that are equal up to rounding.
    """
    same = np.ptp(numbers) <= TIE * np.abs(numbers).max()
    return 0.0 if same else float(numbers.var(ddof=1)) / numbers.size


def _upper(level: float) -> float:
    require(0 < level < 1, "a confidence level lies in (0, 1), 0.95 for 95 %", level)
    return (1 + level) / 2
