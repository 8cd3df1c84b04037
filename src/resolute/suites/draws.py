"""Random numbers for a batch of images: row i depends on the seed of image i alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from resolute import counter

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 2**16
"""Words hashed at once, so that what lies between stays in the processor's cache."""


def words(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draw words of 32 bits.

    Args:
        seeds: int64 [m], one for each image.
        n: Words for each seed.
        stream: Which of the independent sequences of a seed, from 0.

    Returns:
        int64 [m, n] in [0, 2**32).
    """
    positions = torch.arange(n, device=seeds.device) + (stream << 32)
    rows = max(1, BLOCK // max(n, 1)) if seeds.device.type == "cpu" else max(1, len(seeds))
    return torch.cat([counter.words(part[:, None], positions) for part in seeds.split(rows)])


def uniform(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draw numbers that are uniform between 0 and 1.

    Args:
        seeds: int64 [m].
        n: Numbers for each seed.
        stream: As in `words`.

    Returns:
        float64 [m, n] above 0 and below 1.
    """
    return (words(seeds, n, stream).to(torch.float64) + 0.5) / 2**32


def between(low: float, high: float, seeds: Tensor, stream: int = 0) -> Tensor:
    """Draw one number a seed that is uniform between two bounds.

    Args:
        low: The lower bound.
        high: The upper bound.
        seeds: int64 [m].
        stream: As in `words`.

    Returns:
        float64 [m].
    """
    return low + (high - low) * uniform(seeds, 1, stream)[:, 0]


def below(limit: int, seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draw whole numbers; each is as likely as the others to within limit / 2**32.

    Args:
        limit: How many there are, at most 2**31.
        seeds: int64 [m].
        n: Numbers for each seed.
        stream: As in `words`.

    Returns:
        int64 [m, n] in 0..limit-1.
    """
    return (words(seeds, n, stream) * limit) >> 32


def normal(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draw standard normal numbers by Box and Muller's transform of hashed words.

    Args:
        seeds: int64 [m].
        n: Numbers for each seed.
        stream: As in `words`.

    Returns:
        float32 [m, n].
    """
    first, second = uniform(seeds, 2 * n, stream).split(n, dim=1)
    drawn: Tensor = first.log().mul_(-2).sqrt_().mul_(second.mul(2 * math.pi).cos_())
    return drawn.to(torch.float32)
