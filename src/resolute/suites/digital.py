"""Corruptions of the file: brightness, contrast, saturation, warps, pixels and JPEG, as ImageNet-C defines them.

x is float32 [n, C, H, W], whole multiples of 1/255; results may leave [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from resolute.suites import colour, draws, filters, geometry, jpeg

if TYPE_CHECKING:
    from torch import Tensor


def brightness(x: Tensor, seeds: Tensor, more: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Raise the value of hue, saturation and value, up to 1.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        more: What is added.

    Returns:
        Like x.
    """
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp(min=1 / 255)), raised)


def contrast(x: Tensor, seeds: Tensor, kept: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Draw every pixel towards the mean of its channel.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        kept: Share of the distance that is kept.

    Returns:
        Like x.
    """
    mean = colour.mean(x)
    return (x - mean) * kept + mean


def saturate(x: Tensor, seeds: Tensor, line: tuple[float, float]) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Change the saturation of hue, saturation and value; grey pixels, whose hue is 0, turn red if it is raised.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        line: Factor of the saturation and what is added to it; the result is clipped to [0, 1].

    Returns:
        Like x.
    """
    if x.shape[1] == 1:
        return x
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    saturation = (line[0] * spread / value.clamp(min=1 / 255) + line[1]).clamp(0, 1)
    red = torch.tensor([0.0, 1.0, 1.0], device=x.device)[:, None, None]
    share = torch.where(spread > 0, (value - x) / spread.clamp(min=1 / 255), red)
    return value - value * saturation * share


def pixelate(x: Tensor, seeds: Tensor, kept: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Shrink and enlarge again, both with a box filter, as Pillow does.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        kept: Share of each side that is kept in between.

    Returns:
        Like x.
    """
    height, width = x.shape[2:]
    small = filters.box((255 * x).round().to(torch.int32), (max(1, int(height * kept)), max(1, int(width * kept))))
    return filters.box(small, (height, width)) / 255


def jpeg_compression(x: Tensor, seeds: Tensor, quality: int) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Encode as JPEG and decode.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        quality: 1 to 100.

    Returns:
        Like x.
    """
    return jpeg.compress(x, quality)


def elastic_transform(x: Tensor, seeds: Tensor, warp: tuple[float, float, float]) -> Tensor:
    """Map a triangle to one whose corners are moved, then move every pixel by smoothed noise.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        warp: Size of the pixels' moves and standard deviation of their smoothing, and reach of the corners' moves,
            all as shares of the shorter side.

    Returns:
        Like x.
    """
    height, width = x.shape[2:]
    side = min(height, width)
    size, sigma, reach = (share * side for share in warp)
    rows = torch.arange(height, device=x.device, dtype=torch.float64)[:, None]
    columns = torch.arange(width, device=x.device, dtype=torch.float64)[None, :]
    x = geometry.sample(x, *_triangle(seeds, height, width, reach, rows, columns), "mirror")
    if size == 0:
        return x
    noise = 2 * draws.uniform(seeds, 2 * height * width, stream=1).view(-1, 2, height, width) - 1
    moves = size * filters.gaussian(noise.to(torch.float32), sigma, "reflect", truncate=3)
    return geometry.sample(x, rows + moves[:, 1], columns + moves[:, 0], "symmetric")


def _triangle(
    seeds: Tensor, height: int, width: int, reach: float, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from under the affine map that moves three corners about the centre."""
    across, down, arm = width // 2, height // 2, min(height, width) // 3
    corners = torch.tensor(
        [[across + arm, down + arm], [across + arm, down - arm], [across - arm, down - arm]],
        dtype=torch.float64, device=seeds.device,
    )  # fmt: skip
    moved = corners + reach * (2 * draws.uniform(seeds, 6).view(-1, 3, 2) - 1)
    ones = torch.ones_like(moved[:, :, :1])
    back = torch.linalg.solve(torch.cat([moved, ones], dim=2), corners.expand_as(moved))
    a, b, c = back[:, :, None, None, :].unbind(1)
    position = a * columns[..., None] + b * rows[..., None] + c
    return position[..., 1], position[..., 0]
