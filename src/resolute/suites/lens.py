"""Corruptions of the lens: five blurs, as ImageNet-C defines them.

x is float32 [n, C, H, W], whole multiples of 1/255.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from resolute.suites import draws, filters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SLACK = 3e-4
"""Added before bytes are cut off, so that 127.9999 from float32 is 128."""


def gaussian_blur(x: Tensor, seeds: Tensor, sigma: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a Gaussian, the border repeated.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        sigma: Standard deviation in pixels.

    Returns:
        Like x.
    """
    return filters.gaussian(x, sigma)


def defocus_blur(x: Tensor, seeds: Tensor, lens: tuple[float, float]) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a disk.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        lens: Radius of the disk, and standard deviation that softens its edge, in pixels.

    Returns:
        Like x.
    """
    return filters.correlate(x, filters.disk(*lens))


def motion_blur(x: Tensor, seeds: Tensor, line: tuple[int, float]) -> Tensor:
    """Blur along a line whose angle is drawn for each image, uniform in plus or minus 45 degrees.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        line: Radius and standard deviation, in pixels.

    Returns:
        Like x, rounded to bytes as ImageMagick does.
    """
    return (255 * filters.motion(x, *line, draws.between(-45, 45, seeds))).round() / 255


def zoom_blur(x: Tensor, seeds: Tensor, factors: Sequence[float]) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Average the image with itself at several enlargements.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        factors: The enlargements.

    Returns:
        Like x.
    """
    return filters.zoom_blur(x, factors)


def glass_blur(x: Tensor, seeds: Tensor, glass: tuple[float, int, int]) -> Tensor:
    """Blur, swap pixels with near ones, and blur again.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        glass: Standard deviation of the blur in pixels; reach of a swap; how often all pixels are swapped.

    Returns:
        Like x.
    """
    sigma, reach, rounds = glass
    blurred = (255 * filters.gaussian(x, sigma) + SLACK).floor() / 255
    order = shuffled(seeds, x.shape[2], x.shape[3], reach, rounds)
    mixed = blurred.flatten(2).gather(2, order[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return filters.gaussian(mixed, sigma)


def shuffled(seeds: Tensor, height: int, width: int, reach: int, rounds: int) -> Tensor:
    """Swap each pixel with one drawn from -reach to reach - 1 rows and columns away, the last pixel first.

    The swaps stand in a row, but those of pixels far apart do not touch each other. Pixel (h, w) has its turn at time
    (width - w) + (2 reach + 1) (height - h): every pixel that it might meet keeps its place before or after it, and
    all of one time are swapped at once, in all images.

    Args:
        seeds: int64 [n].
        height: Rows.
        width: Columns.
        reach: In pixels.
        rounds: How often it is done.

    Returns:
        int64 [n, height * width]: where each pixel comes from.
    """
    at, lengths = _schedule(height, width, reach)
    at = at.to(seeds.device)
    drawn = draws.below((2 * reach) ** 2, seeds, rounds * len(at)).view(len(seeds), rounds, len(at))
    steps = (drawn // (2 * reach) - reach) * width + drawn % (2 * reach) - reach
    order = torch.arange(height * width, device=seeds.device).repeat(len(seeds), 1)
    for turn in range(rounds):
        for here, there in zip(at.split(lengths), (at + steps[:, turn]).split(lengths, dim=1), strict=True):
            mine = order[:, here]
            order[:, here] = order.gather(1, there)
            order.scatter_(1, there, mine)
    return order


@functools.lru_cache(maxsize=16)
def _schedule(height: int, width: int, reach: int) -> tuple[Tensor, list[int]]:
    """The pixels that are swapped, in the order of their times, and how many share each time."""
    rows = torch.arange(height - reach, reach, -1)[:, None]
    columns = torch.arange(width - reach, reach, -1)
    time = (width - columns) + (2 * reach + 1) * (height - rows)
    order = time.flatten().argsort(stable=True)
    return (rows * width + columns).flatten()[order], time.unique(return_counts=True)[1].tolist()
