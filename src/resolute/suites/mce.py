"""What is reported of corruption benchmarks: errors by corruption, their plain mean, mCE and relative mCE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolute.records import Record

ALEXNET: dict[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's errors on the released ImageNet-C, each the mean over the severities (Hendrycks and Dietterich, 2019)."""
ALEXNET_CLEAN = 1 - 0.56522
"""AlexNet's error on ImageNet: torchvision's figure for its weights."""


@dataclass(frozen=True, slots=True)
class CorruptionErrors:
    """The errors of one network under corruptions.

    Attributes:
        clean: Error on clean images, or NaN if they were not shown.
        by_corruption: For each corruption the mean error over its severities, all in [0, 1].
        mean: Plain mean over the corruptions: the figure for CIFAR-10-C and CIFAR-100-C.
        mce: Mean over the corruptions of the error over AlexNet's: the figure for ImageNet-C, 1 for AlexNet. NaN if it
            was not asked for.
        relative: The same for the errors less the clean error. NaN if it was not asked for or clean is NaN.
    """

    clean: float
    by_corruption: dict[str, float]
    mean: float
    mce: float
    relative: float


def corruption_errors(records: Iterable[Record], suite: str, *, alexnet: bool) -> CorruptionErrors:
    """Sum up the records of one trained network.

    Args:
        records: Of one network: all severities of the 15 corruptions, and the clean images if they were shown.
        suite: ``"corruptions"``, ``"imagenet-c"``, ``"cifar10-c"``, ...
        alexnet: Whether to divide by AlexNet's errors. They are of ImageNet: for CIFAR the field reports the plain
            mean, and mCE means nothing there.

    Returns:
        The figures.

    Raises:
        InputError: If a corruption or a severity of the suite is missing, or there twice.
    """
    records = list(records)
    clean = [record.error for record in records if record.suite == "clean"]
    errors: dict[str, dict[float, float]] = {name: {} for name in ALEXNET}
    for record in records:
        if record.suite == suite and record.shift in errors:
            if record.severity in errors[record.shift]:
                raise InputError(
                    f"{record.shift}, severity {record.severity:g}, is there twice; give the records of one network."
                )
            errors[record.shift][record.severity] = record.error
    missing = [name for name, found in errors.items() if set(found) != {1, 2, 3, 4, 5}]
    if missing:
        raise InputError(
            f"the suite {suite!r} lacks severities of {', '.join(missing)}; the mean is over five of all 15."
        )
    by_corruption = {name: sum(found.values()) / 5 for name, found in errors.items()}
    return from_means(by_corruption, clean[0] if clean else math.nan, alexnet=alexnet)


def from_means(by_corruption: Mapping[str, float], clean: float, *, alexnet: bool) -> CorruptionErrors:
    """Sum up errors that are already means over the severities.

    Args:
        by_corruption: For each of the 15 corruptions its mean error, in [0, 1].
        clean: Error on clean images, or NaN.
        alexnet: As in `corruption_errors`.

    Returns:
        The figures.

    Examples:
        >>> from_means(ALEXNET, ALEXNET_CLEAN, alexnet=True).mce
        1.0
    """
    count = len(ALEXNET)
    mce = relative = math.nan
    if alexnet:
        mce = sum(by_corruption[name] / ALEXNET[name] for name in ALEXNET) / count
        relative = sum((by_corruption[n] - clean) / (ALEXNET[n] - ALEXNET_CLEAN) for n in ALEXNET) / count
    mean = sum(by_corruption[name] for name in ALEXNET) / count
    return CorruptionErrors(clean, dict(by_corruption), mean, mce, relative)
