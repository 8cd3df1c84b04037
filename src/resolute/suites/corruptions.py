"""The corruptions of ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich, 2019), made anew from the seeds.

The constants are those of the authors' make_imagenet_c.py and make_cifar_c.py.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resolute.data.info import SMALL
from resolute.suites import digital, lens, sensor, spatter, weather
from resolute.suites.shift import Shift, drawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from resolute.data import DataInfo


class Corruption(NamedTuple):
    """One corruption.

    Attributes:
        change: ``(x, seeds, constant) -> x'``.
        small: Its constants at severities 1 to 5 for images as small as CIFAR's.
        large: The same for images as large as ImageNet's.
    """

    change: Callable[[Tensor, Tensor, Any], Tensor]
    small: tuple[Any, ...]
    large: tuple[Any, ...]


def _zooms(*ends_and_steps: tuple[float, float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(np.arange(1, end, step).tolist()) for end, step in ends_and_steps)


def _shares(side: int, *constants: tuple[float, float, float]) -> tuple[tuple[float, ...], ...]:
    """The authors wrote 244 where the images have 224 pixels."""
    return tuple(tuple(side / 224 * value for value in constant) for constant in constants)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(sensor.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption(sensor.shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(sensor.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Corruption(
        lens.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": Corruption(
        lens.glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": Corruption(
        lens.motion_blur,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": Corruption(
        lens.zoom_blur,
        _zooms((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        _zooms((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Corruption(
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Corruption(
        weather.frost,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": Corruption(
        weather.fog,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": Corruption(digital.brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(digital.contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption(
        digital.elastic_transform,
        _shares(224, (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        _shares(244, (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    "pixelate": Corruption(digital.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption(digital.jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
"""The 15 of the benchmark."""

HELD_OUT: dict[str, Corruption] = {
    "speckle_noise": Corruption(sensor.speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": Corruption(lens.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "spatter": Corruption(
        spatter.spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    "saturate": Corruption(
        digital.saturate,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
}
"""The four that are kept for choosing settings, and are no part of mCE."""


def corruptions(info: DataInfo) -> list[Shift]:
    """Corrupt as ImageNet-C or CIFAR-10-C does, by the size of the images: 15 corruptions.

    Args:
        info: Description of the data set. Images of up to 64 pixels a side take CIFAR's constants.

    Returns:
        Five severities of each.
    """
    return _listed("corruptions", CORRUPTIONS, info)


def held_out(info: DataInfo) -> list[Shift]:
    """Corrupt by the four that ImageNet-C keeps for choosing settings.

    Args:
        info: Description of the data set. Images of one channel have no saturation.

    Returns:
        Five severities of each.
    """
    return _listed("corruptions-held-out", HELD_OUT, info)


def _listed(suite: str, table: dict[str, Corruption], info: DataInfo) -> list[Shift]:
    small = max(info.shape[1:]) <= SMALL
    return [
        Shift(suite, name, float(severity), drawn(functools.partial(degrade, change=entry.change, constant=constant)))
        for name, entry in table.items()
        if info.shape[0] == 3 or name != "saturate"
        for severity, constant in enumerate(entry.small if small else entry.large, start=1)
    ]


def degrade(x: Tensor, seeds: Tensor, *, change: Callable[[Tensor, Tensor, Any], Tensor], constant: Any) -> Tensor:
    """Corrupt images of bytes to images of bytes, what is left over cut off as the authors' files have it.

    Args:
        x: float32 [n, C, H, W] in [0, 1].
        seeds: int64 [n].
        change: The corruption.
        constant: Its strength.

    Returns:
        Like x, whole multiples of 1/255.
    """
    changed = change((255 * x).round() / 255, seeds, constant).clamp(0, 1)
    return (255 * changed + lens.SLACK).floor() / 255
