"""Corruptions by weather: snow, frost and fog, as ImageNet-C defines them; frost is drawn, not photographed.

x is float32 [n, C, H, W], whole multiples of 1/255; results may leave [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from resolute.suites import colour, draws, filters
from resolute.suites.lens import SLACK

if TYPE_CHECKING:
    from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in grey: ITU-R BT.601, as in OpenCV."""
ICE = (0.9, 1.02, 1.1)
"""Red, green and blue of frost over its grey, as in the photographs of the authors' package."""
LEVEL, RELIEF = (0.48, 0.81), (0.06, 0.14)
"""Mean and standard deviation within an image, spread as over crops of 224 pixels of those photographs."""


def fog(x: Tensor, seeds: Tensor, density: tuple[float, float]) -> Tensor:
    """Add a plasma fractal and darken, so that the brightest pixel keeps its value.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        density: Amount of fog, and how quickly its details fade.

    Returns:
        Like x.
    """
    amount, decay = density
    high = x.amax((1, 2, 3), keepdim=True)
    cloud = plasma(seeds, max(x.shape[2:]), decay)[:, None, : x.shape[2], : x.shape[3]]
    return (x + amount * cloud) * high / (high + amount)


def plasma(seeds: Tensor, side: int, decay: float) -> Tensor:
    """Draw a plasma fractal for each image by the diamond-square algorithm, its edges joined.

    Args:
        seeds: int64 [n].
        side: Pixels that are needed; the next power of two is drawn.
        decay: The noise of each scale over that of the next finer one.

    Returns:
        float32 [n, size, size] from 0 to 1.
    """
    size = 1 << max(side - 1, 1).bit_length()
    numbers = 2 * draws.uniform(seeds, size * size - 1) - 1
    heights = numbers.new_zeros(len(seeds), size, size)
    used, step, wibble = 0, size, 100.0

    def wibbled(total: Tensor) -> Tensor:
        nonlocal used
        count = total[0].numel()
        drawn = numbers[:, used : used + count].view_as(total)
        used += count
        return total / 4 + wibble * wibble * drawn

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        heights[:, half::step, half::step] = wibbled(pairs + pairs.roll(-1, 2))
        middles, corners = heights[:, half::step, half::step], heights[:, ::step, ::step]
        heights[:, ::step, half::step] = wibbled(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
        heights[:, half::step, ::step] = wibbled(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
        step, wibble = half, wibble / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    return (heights / heights.amax((1, 2), keepdim=True)).to(torch.float32)


def snow(x: Tensor, seeds: Tensor, fall: tuple[float, float, float, float, int, float, float]) -> Tensor:
    """Whiten, and add flakes that fall in a direction drawn for each image.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        fall: Mean and standard deviation of the noise that becomes flakes, its enlargement, the threshold below which
            there is no flake, radius and standard deviation of the motion blur, and how much of the image is kept.

    Returns:
        Like x.
    """
    mean, std, zoom, threshold, radius, sigma, kept = fall
    height, width = x.shape[2:]
    flakes = mean + std * draws.normal(seeds, height * width).view(-1, 1, height, width)
    flakes = filters.zoomed(flakes, zoom)
    flakes = torch.where(flakes < threshold, torch.zeros_like(flakes), flakes).clamp(0, 1)
    flakes = (255 * flakes + SLACK).floor() / 255
    angle = draws.between(-135, -45, seeds, stream=1)
    flakes = (255 * filters.motion(flakes, radius, sigma, angle)).round() / 255
    red, green, blue = LUMA
    grey = x if x.shape[1] == 1 else (red * x[:, 0] + green * x[:, 1] + blue * x[:, 2])[:, None]
    return kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5) + flakes + flakes.rot90(2, (2, 3))


def frost(x: Tensor, seeds: Tensor, blend: tuple[float, float]) -> Tensor:
    """Blend with frost. The released sets use five photographs; here crystals are drawn for each image.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        blend: Weights of the image and of the frost.

    Returns:
        Like x.
    """
    ice = crystals(seeds, x.shape[2], x.shape[3])
    if x.shape[1] == 3:
        ice = ice * torch.tensor(ICE, device=x.device)[:, None, None]
    return blend[0] * x + blend[1] * ice.clamp(0, 1)


def crystals(seeds: Tensor, height: int, width: int) -> Tensor:
    """Draw veins of all scales: (1 - |noise|) squared is bright along the lines where smooth noise is zero.

    Args:
        seeds: int64 [n].
        height: Pixels.
        width: Pixels.

    Returns:
        float32 [n, 1, height, width] in [0, 1]; mean and deviation of each image are drawn from `LEVEL` and `RELIEF`.
    """
    total = torch.zeros(len(seeds), 1, height, width, device=seeds.device)
    cells = 4
    while 2 * cells <= max(height, width, 8):
        lattice = draws.normal(seeds, cells * cells, stream=cells).view(-1, 1, cells, cells)
        smooth = F.interpolate(lattice, size=(height, width), mode="bilinear", align_corners=True)
        total += (1 - smooth.abs()).clamp(min=0) ** 2
        cells *= 2
    total = total - colour.mean(total)
    total = total / colour.mean(total**2).sqrt()
    level, relief = (draws.between(*bounds, seeds, stream).to(total) for stream, bounds in enumerate((LEVEL, RELIEF)))
    return (level[:, None, None, None] + relief[:, None, None, None] * total).clamp(0, 1)
