"""Random crops brought to a size, and rotations: where they are drawn, and how they are applied to a batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

CROP_ASPECT = (3 / 4, 4 / 3)
"""Width over height of a crop, drawn uniformly on a logarithmic scale (Szegedy et al., 2015; torchvision)."""
_LOW, _HIGH = map(math.log, CROP_ASPECT)
CROP_TRIES = 10
"""Crops drawn for an image; the first that fits is used, and the central square if none does, as in torchvision."""


def draw_crops(share: float, height: int, width: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw a crop for each of ``n`` images of one size, by the law of torchvision's ``RandomResizedCrop``.

    Args:
        share: Smallest share of the image's area, above 0, at most 1. The share is uniform from there to 1.
        height: Height of the images.
        width: Width of the images.
        n: Number of images.
        generator: Where the numbers come from; the draws are on its device.

    Returns:
        int64 [n, 4]: top, left, height, width.
    """
    numbers = torch.rand((n, 2 * CROP_TRIES + 2), generator=generator, device=generator.device, dtype=torch.float64)
    areas = (share + (1 - share) * numbers[:, :CROP_TRIES]) * (height * width)
    aspects = (_LOW + (_HIGH - _LOW) * numbers[:, CROP_TRIES:-2]).exp()
    widths, heights = (areas * aspects).sqrt().round().long(), (areas / aspects).sqrt().round().long()
    fits = (widths <= width) & (heights <= height) & (widths > 0) & (heights > 0)
    first = fits.long().argmax(1, keepdim=True)
    chosen_height, chosen_width = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    top = (numbers[:, -2] * (height - chosen_height + 1)).long()
    left = (numbers[:, -1] * (width - chosen_width + 1)).long()
    drawn = torch.stack((top, left, chosen_height, chosen_width), 1)
    return torch.where(fits.any(1, keepdim=True), drawn, drawn.new_tensor(_central(height, width)))


def draw_crop(share: float, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw one crop, the same that :func:`draw_crops` draws for one image, in a tenth of the time.

    Args:
        share: Smallest share of the image's area.
        height: Height of the image.
        width: Width of the image.
        generator: Where the numbers come from, on the CPU.

    Returns:
        Top, left, height, width.
    """
    numbers = torch.rand(2 * CROP_TRIES + 2, generator=generator, dtype=torch.float64).tolist()
    for number, aspect_number in zip(numbers[:CROP_TRIES], numbers[CROP_TRIES:-2], strict=True):
        area, aspect = (
            (share + (1 - share) * number) * (height * width),
            math.exp(_LOW + (_HIGH - _LOW) * aspect_number),
        )
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(numbers[-2] * (height - h + 1)), int(numbers[-1] * (width - w + 1)), h, w
    return _central(height, width)


def _central(height: int, width: int) -> tuple[int, int, int, int]:
    low, high = CROP_ASPECT
    w, h = min(width, round(height * high)), min(height, round(width / low))
    return (height - h) // 2, (width - w) // 2, h, w


def crop_and_enlarge(x: Tensor, crops: Tensor) -> Tensor:
    """Cut out a rectangle of each image and bring it to the image's own size, bilinearly.

    A crop is never larger than its image, so that nothing needs a filter against aliasing.

    Args:
        x: [n, C, H, W], uint8 or float.
        crops: int64 [n, 4]: top, left, height, width.

    Returns:
        A tensor of the shape and dtype of ``x``; bytes are rounded.
    """
    _, _, height, width = x.shape
    top, left, crop_height, crop_width = crops.unbind(1)
    values = x.to(torch.float32) if x.dtype == torch.uint8 else x
    rows = _weights(top, crop_height, height).to(values.dtype)
    columns = _weights(left, crop_width, width).to(values.dtype)
    out = rows[:, None] @ values @ columns[:, None].transpose(2, 3)
    return out.round_().clamp_(0, 255).to(torch.uint8) if x.dtype == torch.uint8 else out


def _weights(start: Tensor, length: Tensor, size: int) -> Tensor:
    """What each of ``size`` places in the crop takes from each of ``size`` places in the image: [n, size, size]."""
    place = (torch.arange(size, device=start.device) + 0.5) * (length[:, None] / size) - 0.5
    place = place.clamp(min=0).minimum((length - 1)[:, None].to(place.dtype)) + start[:, None]
    source = torch.arange(size, device=start.device)
    return (1 - (place[:, :, None] - source).abs()).clamp(min=0)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each image about its centre; each pixel is the nearest one of the image, and black outside of it.

    Args:
        x: [n, C, H, W].
        angles: float [n], degrees counter-clockwise.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    n, channels, height, width = x.shape
    radians = angles.to(torch.float32) * (math.pi / 180)
    cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
    down = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    row = (down * cos + right * sin + (height - 1) / 2).round().long()
    column = (right * cos - down * sin + (width - 1) / 2).round().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    source = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).view(n, 1, -1)
    out = x.flatten(2).gather(2, source.expand(n, channels, -1)).view_as(x)
    return out.masked_fill_(~inside[:, None], 0)
