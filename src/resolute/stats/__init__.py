"""What can be said from counts: intervals, paired tests over seeds and over images, many tests at once.

An error is a share of wrong answers, in [0, 1]; a difference is method minus baseline: below zero is better. Every p
is two-sided, every ``level`` a confidence in (0, 1). Arguments out of range, empty or not finite raise ValueError.
"""

from __future__ import annotations

from resolute.stats.comparison import Paired, Verdict, compare_paired, verdict
from resolute.stats.intervals import Interval, error_interval, mean_t, wilson
from resolute.stats.p_values import DRAWS, EXACT, holm, mcnemar, mcnemar_clustered, paired_t, sign_flip

__all__ = [
    "DRAWS",
    "EXACT",
    "Interval",
    "Paired",
    "Verdict",
    "compare_paired",
    "error_interval",
    "holm",
    "mcnemar",
    "mcnemar_clustered",
    "mean_t",
    "paired_t",
    "sign_flip",
    "verdict",
    "wilson",
]
