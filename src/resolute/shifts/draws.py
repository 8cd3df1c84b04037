"""Random numbers for a batch of images: row i depends on the seed of image i alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from resolute.noise import signs

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BLOCK = 2**15
"""Numbers that are made at once, so that what lies between stays in the processor's cache."""


def words(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draw words of 32 bits.

    Args:
        seeds: int64 [m], one for each image.
        n: Words for each seed.
        stream: Which of the independent sequences of a seed, from 0.

    Returns:
        int64 [m, n] in [0, 2**32).
    """
    return _in_blocks(seeds, n, lambda own, at: _words(own, at, stream).to(torch.int64))


def uniform(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draw numbers that are uniform between 0 and 1.

    Args:
        seeds: int64 [m].
        n: Numbers for each seed.
        stream: As in `words`.

    Returns:
        float64 [m, n] above 0 and below 1.
    """
    return _in_blocks(seeds, n, lambda own, at: _share(own, at, stream))


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

    def transformed(own: Tensor, at: Tensor) -> Tensor:
        radius = _share(own, at, stream).log_().mul_(-2).sqrt_()
        angle = _share(own, at + n, stream).mul_(2 * math.pi)
        return radius.mul_(angle.cos_()).to(torch.float32)

    return _in_blocks(seeds, n, transformed)


def _words(seeds: Tensor, positions: Tensor, stream: int) -> Tensor:
    """Draw words of uint32 on a CPU, where NumPy's 32 bits are faster, and of int64 elsewhere."""
    if seeds.is_cpu:
        return torch.from_numpy(signs.hashed(seeds.numpy(), positions.numpy().astype("uint32"), stream))
    return signs.words(seeds, positions + (stream << 32))


def _share(seeds: Tensor, positions: Tensor, stream: int) -> Tensor:
    return _words(seeds, positions, stream).to(torch.float64).add_(0.5).mul_(2**-32)


def _in_blocks(seeds: Tensor, n: int, make: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Put together what ``make(seeds [k, 1], positions [l])`` gives for parts of the seeds and of 0..n-1."""
    positions = torch.arange(n, device=seeds.device)
    if seeds.device.type != "cpu":
        return make(seeds[:, None], positions)
    wide = max(1, min(n, BLOCK))
    rows = [
        torch.cat([make(part[:, None], at) for at in positions.split(wide)], dim=1)
        for part in seeds.split(BLOCK // wide)
    ]
    return torch.cat(rows)
