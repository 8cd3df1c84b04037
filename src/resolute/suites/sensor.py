"""Corruptions of the sensor: noise of four kinds, as ImageNet-C defines them.

x is float32 [n, C, H, W], whole multiples of 1/255; results may leave [0, 1].
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch

from resolute.suites import draws, noise

if TYPE_CHECKING:
    from torch import Tensor


def gaussian_noise(x: Tensor, seeds: Tensor, std: float) -> Tensor:
    """Add normal numbers.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        std: Their standard deviation, in pixel units.

    Returns:
        Like x.
    """
    return noise.add(x, seeds, std=std)


def speckle_noise(x: Tensor, seeds: Tensor, std: float) -> Tensor:
    """Add normal numbers times the pixel.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        std: Their standard deviation, a share of the pixel.

    Returns:
        Like x.
    """
    return x + x * (std * draws.normal(seeds, x[0].numel()).view_as(x))


def shot_noise(x: Tensor, seeds: Tensor, light: float) -> Tensor:
    """Count photons: Poisson numbers of mean x * light, divided by light.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        light: Photons of a white pixel.

    Returns:
        Like x.
    """
    return poisson(x, draws.uniform(seeds, x[0].numel()).view(x.shape), light) / light


def poisson(x: Tensor, u: Tensor, light: float) -> Tensor:
    """Invert the distribution function of Poisson numbers of mean x * light.

    Args:
        x: float32, whole multiples of 1/255.
        u: float64 like x, in (0, 1).
        light: Mean for x = 1.

    Returns:
        float32 like x: for each pixel the smallest k with P(K <= k) >= u.
    """
    table, width = _distribution(light)
    level = (255 * x).round().to(torch.int64)
    found = torch.searchsorted(table.to(x.device), level + u)
    return (found - level * width).clamp(0, width - 1).to(torch.float32)


@functools.lru_cache(maxsize=16)
def _distribution(light: float) -> tuple[Tensor, int]:
    """For each of the 256 levels its distribution function, raised by the level so that all make one sorted row."""
    width = math.ceil(light + 8 * math.sqrt(light) + 12)
    k, level = torch.arange(1, width + 1, dtype=torch.float64), torch.arange(256, dtype=torch.float64)[:, None]
    below = torch.special.gammaincc(k.expand(256, -1), (level * light / 255).expand(-1, width))
    return (level + below).flatten(), width


def impulse_noise(x: Tensor, seeds: Tensor, amount: float) -> Tensor:
    """Make a share of the values black or white, each as likely.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        amount: The share, of the values of all channels.

    Returns:
        Like x.
    """
    word = draws.words(seeds, x[0].numel()).view(x.shape)
    return torch.where(word < amount * 2**32, (word & 1).to(x.dtype), x)
