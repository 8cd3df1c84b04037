"""Where a pixel comes from: flips, windows, resized crops, affine maps; the parameters are one for each image.

x is float32 [n, C, H, W]. Positions are in pixels, the centre of the first pixel is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def flip(x: Tensor, which: Tensor) -> Tensor:
    """Mirror some images left to right.

    Args:
        x: float32 [n, C, H, W].
        which: bool [n].

    Returns:
        Like x.
    """
    return torch.where(which[:, None, None, None], x.flip(-1), x)


def window(x: Tensor, top: Tensor, left: Tensor, padding: Literal["zeros", "reflect"] = "zeros") -> Tensor:
    """Cut a window of the image's own size that may reach over its border.

    Args:
        x: float32 [n, C, H, W].
        top: int64 [n], row of the image that becomes row 0; negative above the image.
        left: int64 [n], likewise for columns.
        padding: What lies outside: black, or the image mirrored at its border pixel (offsets below H and W).

    Returns:
        Like x.
    """
    rows = top[:, None] + torch.arange(x.shape[2], device=x.device)
    columns = left[:, None] + torch.arange(x.shape[3], device=x.device)
    inside = _inside(rows, x.shape[2])[:, :, None] & _inside(columns, x.shape[3])[:, None, :]
    cut = pick(x, _mirrored(rows, x.shape[2])[:, :, None], _mirrored(columns, x.shape[3])[:, None, :])
    return cut * inside[:, None] if padding == "zeros" else cut


def pick(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take a pixel of the same image for every pixel.

    Args:
        x: float32 [n, C, H, W].
        rows: int64, broadcastable to [n, h, w], in 0..H-1.
        columns: int64, likewise, in 0..W-1.

    Returns:
        float32 [n, C, h, w].
    """
    index = rows * x.shape[3] + columns
    n, h, w = index.shape
    flat = index.reshape(n, 1, h * w).expand(len(x), x.shape[1], h * w)
    return x.flatten(2).gather(2, flat).view(len(x), x.shape[1], h, w)


def resized_crop(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut a window out of every image and bring it back to the image's size, bilinearly.

    Args:
        x: float32 [n, C, H, W].
        top: int64 [n], first row of the window.
        left: int64 [n], first column.
        height: Rows of the window, at most H.
        width: Columns of the window, at most W.

    Returns:
        Like x.
    """
    first, second, share = _lerp(x.shape[2], height, top)
    every = torch.arange(x.shape[3], device=x.device)[None, None, :]
    x = torch.lerp(pick(x, first[:, :, None], every), pick(x, second[:, :, None], every), share[:, None])
    first, second, share = _lerp(x.shape[3], width, left)
    every = torch.arange(x.shape[2], device=x.device)[None, :, None]
    return torch.lerp(pick(x, every, first[:, None, :]), pick(x, every, second[:, None, :]), share)


def affine(
    x: Tensor, *, angle: Tensor | float = 0.0, scale: Tensor | float = 1.0, right: Tensor | float = 0.0,
    down: Tensor | float = 0.0,
) -> Tensor:  # fmt: skip
    """Turn and scale about the centre, then move; bilinear, black outside, as torchvision's ``affine`` does.

    Args:
        x: float32 [n, C, H, W].
        angle: Degrees clockwise, [n] or one for all.
        scale: Factor of the size, above 0.
        right: Pixels to the right; fractions are allowed.
        down: Pixels downwards.

    Returns:
        Like x.
    """
    angle, scale, right, down = (
        torch.as_tensor(value, dtype=torch.float64, device=x.device).expand(len(x))[:, None, None]
        for value in (angle, scale, right, down)
    )
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device, dtype=torch.float64)[:, None] - (height - 1) / 2 - down
    columns = torch.arange(width, device=x.device, dtype=torch.float64)[None, :] - (width - 1) / 2 - right
    cos, sin = torch.cos(angle * math.pi / 180) / scale, torch.sin(angle * math.pi / 180) / scale
    from_columns = cos * columns + sin * rows + (width - 1) / 2
    from_rows = cos * rows - sin * columns + (height - 1) / 2
    return sample(x, from_rows, from_columns)


def sample(
    x: Tensor, rows: Tensor, columns: Tensor, outside: Literal["zeros", "mirror", "symmetric"] = "zeros"
) -> Tensor:
    """Look up positions between the pixels, bilinearly.

    Args:
        x: float32 [n, C, H, W].
        rows: [n, h, w] in pixels.
        columns: [n, h, w] in pixels.
        outside: What lies outside: black, the image mirrored at the centre of its border pixel (OpenCV's reflect_101,
            SciPy's mirror), or at its outer edge (SciPy's reflect).

    Returns:
        float32 [n, C, h, w].
    """
    height, width = x.shape[2:]
    corners = outside == "mirror"
    if corners:
        grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1)
    else:
        grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    padding = "zeros" if outside == "zeros" else "reflection"
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode=padding, align_corners=corners)


def _inside(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def _mirrored(index: Tensor, size: int) -> Tensor:
    period = max(2 * (size - 1), 1)
    folded = index.remainder(period)
    return torch.minimum(folded, period - folded).clamp(max=size - 1)


def _lerp(size: int, part: int, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two neighbours and a share for each of ``size`` positions spread over ``part`` pixels from ``start`` on."""
    position = ((torch.arange(size, device=start.device) + 0.5) * (part / size) - 0.5).clamp(min=0)
    first = position.floor().to(torch.int64).clamp(max=part - 1)
    second = (first + 1).clamp(max=part - 1)
    return start[:, None] + first, start[:, None] + second, (position - first).to(torch.float32)
