"""What a verdict promises, by simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from resolute import stats
from stats.draws import four_sigma

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stats.draws import Wrong


def networks(generator: np.random.Generator, centre: NDArray[np.float64], seed_sd: float, sd: float) -> Wrong:
    """Wrong where a latent difficulty of the image, moved by the seed and by chance, exceeds 2."""
    seeds = generator.normal(0, seed_sd, size=(5, 1))
    return centre + seeds + generator.normal(0, sd, size=(5, centre.size)) > 2


def claims(draw: Callable[[np.random.Generator], tuple[Wrong, Wrong]], repeats: int) -> tuple[float, float]:
    """How often p and p_both are 0.05 or less."""
    generator = np.random.default_rng(0)
    found = [stats.compare_paired(*draw(generator)) for _ in range(repeats)]
    return float(np.mean([f.p <= 0.05 for f in found])), float(np.mean([f.p_both <= 0.05 for f in found]))


def test_false_claims_when_only_the_seeds_are_new() -> None:
    generator = np.random.default_rng(1)
    half, tilt = generator.normal(size=200), generator.normal(0, 0.5, size=200)
    on_a, on_b = np.concatenate([half + tilt, half - tilt]), np.concatenate([half - tilt, half + tilt])

    p, both = claims(lambda g: (networks(g, on_a, 0.3, 0.3), networks(g, on_b, 0.3, 0.3)), 1500)
    assert p <= 0.05 + four_sigma(0.05, 1500)  # 0.0725
    assert both <= 0.05 + four_sigma(0.05, 1500)


def test_false_claims_when_only_the_images_are_new() -> None:
    abilities = np.random.default_rng(1).normal(0, 0.3, size=(5, 1))

    def draw(g: np.random.Generator) -> tuple[Wrong, Wrong]:
        a, b = (g.normal(size=400) + abilities[order] > 1.5 for order in (slice(None), slice(None, None, -1)))
        return a, b

    p, both = claims(draw, 1500)
    assert p <= 0.05 + four_sigma(0.05, 1500)
    assert both <= 0.05 + four_sigma(0.05, 1500)


@pytest.mark.parametrize(("seed_sd", "image_sd", "sd"), [(0.05, 0.3, 0.3), (0.1, 0.5, 0.3), (0.2, 1.0, 0.1)])
def test_false_claims_when_seeds_and_images_are_new(seed_sd: float, image_sd: float, sd: float) -> None:
    """In the last case both kinds of luck are of one size: p_seeds and p_images together err in 8 % of such cases."""

    def draw(g: np.random.Generator) -> tuple[Wrong, Wrong]:
        difficulty = g.normal(size=360)
        a, b = (networks(g, difficulty + g.normal(0, image_sd, size=360), seed_sd, sd) for _ in range(2))
        return a, b

    p, both = claims(draw, 1500)
    assert p <= both <= 0.05 + four_sigma(0.05, 1500)


def test_a_clear_difference_is_seen() -> None:
    def draw(g: np.random.Generator) -> tuple[Wrong, Wrong]:
        difficulty = g.normal(size=1000)
        return networks(g, difficulty - 0.5, 0.1, 0.3), networks(g, difficulty, 0.1, 0.3)  # errors 0.8 % and 2.8 %

    p, both = claims(draw, 400)
    assert p > 0.9
    assert both > 0.9
