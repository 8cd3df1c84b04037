"""Intervals, one model of a difference over seeds and images, and many comparisons at once.

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
    from collections.abc import Sequence

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


Verdict = Literal["better", "worse", "no difference seen"]
Over = Literal["seeds and images", "seeds", "images"]
BOTH: Over = "seeds and images"
"""What would be drawn anew: seeds and images, seeds on these very images, or images for these very networks."""
POWER = 0.8
"""Chance to see a difference that is there, by the field's custom (Cohen 1988)."""
_MOST = 1000
"""How many times as many images or seeds are thought of at most."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How two methods differ on the same seeds and images, and by how much that would vary.

    A difference is the mean of ``d[s, i]``, method minus baseline at seed s on image i. The model is that of crossed
    random effects, ``d[s, i] = D + seed[s] + image[i] + rest[s, i]``, and the half width of an interval for D joins
    those over seeds and over images as the sides of a right angle (Banerjee 1960; see docs/statistics.md):
    ``half^2 = t^2 V_seeds + t^2 V_images``, with k - 1 and n + 1 degrees of freedom.

    Attributes:
        mean: Method minus baseline: below zero is better.
        seeds: Paired seeds, k, at least 1.
        images: Images, n; 0 where the answers image by image are not known.
        of_seeds: Variance of the mean for new seeds on these images; NaN where not known, as with one seed.
        of_images: What new images add to it; NaN where not known.
        of_networks: Variance of the mean for new images and these very networks; NaN where not known.
        of_answers: The part of ``of_seeds`` that belongs to single answers: more images make it smaller too.
    """

    mean: float
    seeds: int
    images: int = 0
    of_seeds: float = math.nan
    of_images: float = math.nan
    of_networks: float = math.nan
    of_answers: float = 0.0

    def interval(self, level: float = 0.95, over: Over = BOTH) -> Interval:
        """Bound the difference.

        Args:
            level: Confidence.
            over: What would be drawn anew.

        Returns:
            The difference and its bounds, which exclude 0 exactly where ``p(over) < 1 - level``; NaN where not known.
        """
        centre, half = self._centre(over), self._half(_upper(level), over, self.seeds, self.images)
        low, high = min(self.mean, centre - half), max(self.mean, centre + half)
        if self.images and not math.isnan(half):
            low, high = max(-1.0, low), min(1.0, high)
        return Interval(self.mean, *((math.nan, math.nan) if math.isnan(half) else (low, high)))

    def p(self, over: Over = BOTH) -> float:
        """Test that there is no difference: one minus the level at which the interval begins to hold 0.

        Args:
            over: What would be drawn anew.

        Returns:
            p, in [1e-12, 1]; NaN where it is not known.
        """
        centre, low, high = abs(self._centre(over)), math.log(1e-12), 0.0
        if math.isnan(self._half(0.5, over, self.seeds, self.images)):
            return math.nan
        for _ in range(50):
            middle = (low + high) / 2
            excluded = centre > self._half(1 - math.exp(middle) / 2, over, self.seeds, self.images)
            low, high = (low, middle) if excluded else (middle, high)
        return math.exp(high)

    def needed(self, what: Literal["seeds", "images"], level: float = 0.95, over: Over = BOTH) -> int | None:
        """Say how many seeds or images would show a difference of this size with a chance of `POWER`.

        Args:
            what: Which of the two there would be more of; of the other there are as many as now.
            level: Confidence of the interval that is to exclude 0.
            over: What would be drawn anew.

        Returns:
            The number, with two significant digits; None where a thousand times as many would not do.
        """
        now = self.seeds if what == "seeds" else self.images
        if not now or math.isnan(self._half(0.5, over, self.seeds, self.images)):
            return None

        def tells(many: int) -> bool:
            seeds, images = (many, self.images) if what == "seeds" else (self.seeds, many)
            spread = math.sqrt(sum(self._variances(over, seeds, images)))
            return abs(self.mean) >= self._half(_upper(level), over, seeds, images) + _normal(POWER) * spread

        low, high = 1, 2
        while not tells(high):
            low, high = high, 2 * high
            if high > 2 * _MOST * now:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if tells(middle) else (middle, high)
        unit: int = 10 ** max(0, len(str(high)) - 2)
        return math.ceil(high / unit) * unit

    def _centre(self, over: Over) -> float:
        return self.mean if over == "seeds" else self.mean * self.images / (self.images + 2)

    def _variances(self, over: Over, seeds: int, images: int) -> tuple[float, float]:
        """The two variances with other numbers of seeds and images."""
        k, n = self.seeds / seeds, self.images / images if images else 1.0
        own = max(0.0, self.of_seeds - self.of_answers) if n != 1 else self.of_seeds - self.of_answers
        of_seeds = 0.0 if over == "images" else k * (own + n * self.of_answers)
        of_images = {"seeds": 0.0, "images": self.of_networks}.get(over, self.of_images)
        return of_seeds, n * of_images

    def _half(self, upper: float, over: Over, seeds: int, images: int) -> float:
        of_seeds, of_images = self._variances(over, seeds, images)
        squares = (
            v and _t(df, upper) * v * _t(df, upper) for v, df in ((of_seeds, seeds - 1), (of_images, images + 1))
        )
        return math.sqrt(sum(squares))


def compare_paired(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> Difference:
    """Compare a method with the baseline on the same seeds and images.

    Args:
        wrong_a: Where the method erred, bool, shape [seeds, n], or [seeds, shifts, n] for their mean error.
        wrong_b: The same for the baseline, same shape: same seeds, shifts and images.

    Returns:
        The difference. With one seed it says what holds of these two networks for new images, and no more.

    Example:
        >>> errs = np.array([[True, False, False, False], [True, True, False, False]])
        >>> compare_paired(errs, ~errs).mean
        -0.25
    """
    d = _disagreements(wrong_a, wrong_b)
    k, n = d.shape
    rounding = 1 / (12 * k * wrong_a[0].size ** 2)  # a mean of shares of whole answers varies by that at least
    mean, over_seeds, over_images = float(d.mean()), d.mean(axis=1), d.mean(axis=0)
    rest = float(((d - over_seeds[:, None] - over_images + mean) ** 2).sum()) / max(1, (k - 1) * (n - 1))
    of_networks = _of_networks(d, over_images)
    several = k > 1
    return Difference(
        mean=mean,
        seeds=k,
        images=n,
        of_seeds=max(_variance_of_mean(over_seeds), rounding) if several else math.nan,
        of_images=max(0.0, of_networks - rest / (k * n)) if several else math.nan,
        of_networks=of_networks,
        of_answers=rest / (k * n) if several else 0.0,
    )


def compare_seeds(differences: ArrayLike) -> Difference:
    """Compare by one number for each seed, where the answers image by image are not known: on these images alone.

    ``interval(level, "seeds")`` and ``p("seeds")`` are those of Student's paired t test.

    Args:
        differences: Method minus baseline for each seed, shape [k].

    Returns:
        The difference. Equal numbers say nothing of how they vary, and have no interval.

    Example:
        >>> found = compare_seeds([-0.02, -0.03, -0.01])
        >>> round(found.mean, 3), round(found.p("seeds"), 3)
        (-0.02, 0.074)
    """
    numbers = _finite(differences)
    variance = _variance_of_mean(numbers) if numbers.size > 1 else 0.0
    return Difference(float(numbers.mean()), numbers.size, of_seeds=variance or math.nan)


def from_interval(interval: Interval, images: int, level: float = 0.95) -> Difference:
    """Give back the difference of two networks from its interval over images.

    Args:
        interval: As ``interval(level, "images")`` of `compare_paired` gave it.
        images: Images, n.
        level: Its confidence; 0.95 where it is NaN.

    Returns:
        The difference; its variance is NaN where the interval has no bounds.

    Example:
        >>> own = from_interval(Interval(-0.02, -0.03, -0.01), 1000)
        >>> round(own.interval(over="images").high, 3)
        -0.01
    """
    half = (interval.high - interval.low) / 2
    spread = half / _t(images + 1, _upper(0.95 if math.isnan(level) else level))
    return Difference(interval.mean, 1, images, of_networks=spread * spread)


def _of_networks(d: NDArray[np.float64], over_images: NDArray[np.float64]) -> float:
    """Estimate the variance of a mean over images."""
    # Images that only one of the two gets wrong are added, as many of either kind, so that there is a width where they
    # never disagree: one each where all seeds agree, as where there is one (Bonett and Price 2012), down to a quarter
    # where an image's answers differ from seed to seed; ``share`` is what of the disagreement the seeds have in common.
    n, squares, means = d.shape[1], float((d * d).mean(axis=0).sum()), float((over_images * over_images).sum())
    share = means / squares if squares else 1.0
    weight = max((1 + share) / 2, 2 * share * share)
    centre = float(over_images.sum()) / (n + 2)
    return float(((means + weight) / (n + 2) - centre * centre) / (n + 2))


def _t(df: float, upper: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, upper)) if df > 0 else math.nan


def _normal(upper: float) -> float:
    return NormalDist().inv_cdf(upper)


def _disagreements(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give by seed and image the share of shifts under which only the first erred, less that of only the second."""
    _require(a.dtype == b.dtype == bool, "wrong answers are bool arrays", (a.dtype, b.dtype))
    fits = a.shape == b.shape and a.ndim in (2, 3) and a.size > 0
    _require(fits, "both need one shape [seeds, n] or [seeds, shifts, n]", (a.shape, b.shape))
    shares = (each.reshape(len(each), -1, each.shape[-1]).sum(axis=1) for each in (a, b))
    d: NDArray[np.float64] = np.subtract(*(share.astype(np.float64) for share in shares)) / (a[0].size // a.shape[-1])
    return d


@dataclass(frozen=True, slots=True)
class Finding:
    """What one comparison of several showed.

    Attributes:
        difference: Method minus baseline and its bounds, at ``level``: they exclude 0 exactly where there is a verdict.
        level: Confidence at which Holm's method tested it: 0.95 for one comparison, more for one of several.
        p: On its own.
        p_holm: After `holm` over all of them; NaN where it was not tested.
        verdict: ``"better"`` or ``"worse"`` where ``p_holm`` is at most alpha.
    """

    difference: Interval
    level: float
    p: float
    p_holm: float
    verdict: Verdict


def find(
    differences: Sequence[Difference | None], over: Over = BOTH, *, alpha: float = 0.05, more: int = 0
) -> list[Finding | None]:
    """Decide on comparisons that were asked for together, so that interval, p and verdict never contradict each other.

    Holm's method tests the j-th smallest p of m at ``alpha / (m - j + 1)`` until one fails, and all the others at the
    level of that one. Each interval is at its own level: of all comparisons without a difference, an interval excludes
    0 in a share ``alpha`` of runs at most, and each on its own covers with ``1 - alpha`` at least.

    Args:
        differences: The comparisons; None where there is none.
        over: What would be drawn anew.
        alpha: Largest p that is called a difference; 0.05 by the field's custom.
        more: Comparisons that were looked at too and are not among these.

    Returns:
        What each showed, in the same order.

    Example:
        >>> one = compare_seeds([-0.02, -0.03, -0.01, -0.02])
        >>> [found.verdict for found in find([one, one], "seeds") if found]
        ['better', 'better']
    """
    p = [math.nan if each is None else each.p(over) for each in differences]
    adjusted = holm([*p, *[1.0] * more])
    tested = sorted((value, at) for at, value in enumerate(p) if not math.isnan(value))
    left, levels = len(tested) + more, dict[int, float]()
    for value, at in tested:
        levels[at] = 1 - alpha / left
        left -= value * left <= alpha
    found: list[Finding | None] = []
    for at, each in enumerate(differences):
        if each is None:
            found.append(None)
            continue
        level, p_holm = levels.get(at, 1 - alpha), float(adjusted[at])
        found.append(Finding(each.interval(level, over), level, p[at], p_holm, verdict(each.mean, p_holm, alpha)))
    return found


def verdict(difference: float, p_adjusted: float, alpha: float = 0.05) -> Verdict:
    """Say in words what a comparison showed; a lower error is better.

    Args:
        difference: The method's error minus the baseline's.
        p_adjusted: Its p after `holm`; NaN (not tested) claims nothing.
        alpha: Largest p that is called a difference; 0.05 by the field's custom.

    Returns:
        ``"better"``, ``"worse"`` or ``"no difference seen"``, which does not mean that there is none.

    Example:
        >>> verdict(-0.02, 0.01), verdict(-0.02, 0.2)
        ('better', 'no difference seen')
    """
    if difference == 0 or not p_adjusted <= alpha:
        return "no difference seen"
    return "better" if difference < 0 else "worse"
