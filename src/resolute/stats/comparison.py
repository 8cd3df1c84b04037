"""One method against the baseline, over seeds and images, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from resolute.stats.intervals import variance_of_mean
from resolute.stats.p_values import disagreements, mcnemar_clustered, paired_t, sign_flip, t_test

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from resolute.stats.intervals import Interval

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
        wrong_b: The same for the baseline, same seeds, shifts and images.
        level: Confidence of the interval over seeds.

    Returns:
        Difference, p values and relative change. With one seed p is 1: nothing is claimed about new seeds.
    """
    d = disagreements(wrong_a, wrong_b)
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
    """
    mean = difference.difference.mean if isinstance(difference, Paired) else difference
    if mean == 0 or not p_adjusted <= alpha:
        return "no difference seen"
    return "better" if mean < 0 else "worse"


def _min_f(over_seeds: NDArray[np.float64], over_images: NDArray[np.float64]) -> float:
    """Clark's min F' (1973): ``t = D / sqrt(V_seeds + V_images)``, Satterthwaite's degrees of freedom."""
    if min(over_seeds.size, over_images.size) == 1:
        return 1.0
    seeds, images = variance_of_mean(over_seeds), variance_of_mean(over_images)
    inverse_df = seeds**2 / (over_seeds.size - 1) + images**2 / (over_images.size - 1)
    return t_test(over_seeds, seeds + images, (seeds + images) ** 2 / inverse_df if inverse_df else math.inf)
