"""Gaussian noise on the pixels."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch

from resolute import counter
from resolute.suites.shift import Shift

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    return [Shift("noise", "gaussian-noise", std, functools.partial(_add, std=std)) for std in STRENGTHS]


def _add(model: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, *, std: float) -> Tensor:  # noqa: ARG001
    return (x + std * normal(seeds, x[0].numel()).view_as(x)).clamp(0, 1)


def normal(seeds: Tensor, n: int) -> Tensor:
    """Draw standard normal numbers by Box and Muller's transform of hashed words.

    Args:
        seeds: int64 [m].
        n: Numbers for each seed.

    Returns:
        float32 [m, n]: row i depends on ``seeds[i]`` alone.
    """
    words = counter.words(seeds[:, None], torch.arange(2 * n, device=seeds.device))
    uniform = (words.to(torch.float64) + 0.5) / 2**32
    radius, angle = (-2 * uniform[:, :n].log()).sqrt(), 2 * math.pi * uniform[:, n:]
    return (radius * angle.cos()).to(torch.float32)
