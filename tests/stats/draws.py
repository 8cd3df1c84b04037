"""Answers drawn by chance, and how far a simulated rate may be off."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Wrong = NDArray[np.bool_]
"""Wrong answers of networks with several seeds: [seeds, n]."""


def four_sigma(rate: float, repeats: int) -> float:
    """Give four binomial standard deviations of a simulated rate."""
    return 4 * math.sqrt(rate * (1 - rate) / repeats)


def random_wrong(seed: int, seeds: int, n: int, share: float = 0.1) -> tuple[Wrong, Wrong]:
    generator = np.random.default_rng(seed)
    hard = generator.random(n) < share
    first, second = (hard ^ (generator.random((seeds, n)) < share) for _ in range(2))
    return first, second
