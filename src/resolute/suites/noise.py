"""Gaussian noise on the pixels."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from resolute.suites import draws
from resolute.suites.shift import Shift, drawn

if TYPE_CHECKING:
    from torch import Tensor

    from resolute.data import DataInfo

STRENGTHS = (0.1, 0.2, 0.3)
"""Standard deviations in pixel units, within the span of ImageNet-C's gaussian_noise, 0.08 to 0.38."""


def noise(info: DataInfo) -> list[Shift]:  # noqa: ARG001 every suite takes the data's description
    """Add Gaussian noise of several strengths, clipped to [0, 1].

    Args:
        info: Description of the data set.

    Returns:
        One shift for each of `STRENGTHS`.
    """
    return [Shift("noise", "gaussian-noise", std, drawn(functools.partial(add, std=std))) for std in STRENGTHS]


def add(x: Tensor, seeds: Tensor, *, std: float) -> Tensor:
    """Add independent normal numbers to every pixel and channel.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        std: Standard deviation, in pixel units.

    Returns:
        Like x, not clipped.
    """
    return x + std * draws.normal(seeds, x[0].numel()).view_as(x)
