"""The figures that corruption benchmarks are known by: the mean error, mCE and relative mCE, with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resolute.report.formats import bounds, percent
from resolute.stats import Interval
from resolute.suites.mce import ALEXNET, ALEXNET_CLEAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from resolute.records import Key

SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)
Z = 1.96


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What one suite of 15 corruptions at 5 severities comes to.

    Attributes:
        suite: Name of the suite.
        figures: For each network its figures by name: ``"mean error"``; for ImageNet ``"mCE"`` and ``"relative mCE"``
            too, as shares: 1 is AlexNet's.
    """

    suite: str
    figures: dict[str, dict[str, Interval]]

    def told(self, network: str) -> str:
        """Write a network's figures on one line.

        Args:
            network: Its name.

        Returns:
            ``"mean error 21.34 % (20.10 to 22.58)"``, and so on.
        """
        own = self.figures[network]
        return ", ".join(f"{name} {percent(value.mean)} % ({bounds(value)})" for name, value in own.items())


def benchmarks(bits: Mapping[str, Mapping[Key, NDArray[np.bool_]]], data: str) -> tuple[Benchmark, ...]:
    """Sum up every suite that was run on all 15 corruptions at all 5 severities.

    AlexNet's errors are those on the released ImageNet-C: for data of another name there is the plain mean alone, which
    is the figure for CIFAR-10-C and CIFAR-100-C.

    Args:
        bits: For each network and key a boolean array [n], True where the answer is right; the clean images among them.
        data: Name of the data set.

    Returns:
        One entry for each such suite; none if there is none.
    """
    found = next(iter(bits.values()))
    suites = dict.fromkeys(suite for suite, _, _ in found)
    whole = [s for s in suites if all((s, name, severity) in found for name in ALEXNET for severity in SEVERITIES)]
    return tuple(
        Benchmark(suite, {name: _figures(own, suite, alexnet=data == "imagenet") for name, own in bits.items()})
        for suite in whole
    )


def _figures(right: Mapping[Key, NDArray[np.bool_]], suite: str, *, alexnet: bool) -> dict[str, Interval]:
    wrong = np.stack([np.mean([~right[suite, name, s] for s in SEVERITIES], axis=0) for name in ALEXNET])
    clean = ~right["clean", "clean", 0.0]
    theirs = np.array(list(ALEXNET.values()))[:, None]
    scores = {"mean error": wrong}
    if alexnet:
        scores |= {"mCE": wrong / theirs, "relative mCE": (wrong - clean) / (theirs - ALEXNET_CLEAN)}
    return {name: _over_images(score.mean(0)) for name, score in scores.items()}


def _over_images(score: NDArray[np.float64]) -> Interval:
    """The mean of one score an image, with the normal interval over images."""
    mean, n = float(score.mean()), len(score)
    half = Z * float(score.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half)
