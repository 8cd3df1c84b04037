"""Brightness, contrast, saturation and hue as torchvision defines them, with one parameter for each image.

x is float32 [n, C, H, W] in [0, 1]. Images of one channel have no colour: saturation and hue leave them as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (0.2989, 0.587, 0.114)
"""Share of red, green and blue in grey: ITU-R BT.601, rounded as in torchvision."""


def grey(x: Tensor) -> Tensor:
    """Weigh the channels to one.

    Args:
        x: float32 [n, C, H, W].

    Returns:
        float32 [n, 1, H, W].
    """
    if x.shape[1] == 1:
        return x
    red, green, blue = WEIGHTS
    return (red * x[:, 0] + green * x[:, 1] + blue * x[:, 2])[:, None]


def greyscale(x: Tensor, which: Tensor) -> Tensor:
    """Make some images grey, in three equal channels.

    Args:
        x: float32 [n, C, H, W].
        which: bool [n].

    Returns:
        Like x.
    """
    return torch.where(which[:, None, None, None], grey(x), x)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black.

    Args:
        x: float32 [n, C, H, W].
        factor: [n], at least 0; 1 changes nothing.

    Returns:
        Like x.
    """
    return (x * _wide(factor, x)).clamp(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of the image.

    Args:
        x: float32 [n, C, H, W].
        factor: [n], at least 0; 1 changes nothing.

    Returns:
        Like x.
    """
    return _blend(x, mean(grey(x)), factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image.

    Args:
        x: float32 [n, C, H, W].
        factor: [n], at least 0; 1 changes nothing.

    Returns:
        Like x.
    """
    return x if x.shape[1] == 1 else _blend(x, grey(x), factor)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the circle of hues.

    Args:
        x: float32 [n, C, H, W].
        turn: [n] in [-0.5, 0.5], a share of the circle; 0 changes nothing.

    Returns:
        Like x.
    """
    if x.shape[1] == 1:
        return x
    high, low = x.amax(1), x.amin(1)
    spread = high - low
    red, green, blue = x.unbind(1)
    safe = torch.where(spread == 0, torch.ones_like(spread), spread)
    angle = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    angle = angle + 6 * _wide(turn, x)[:, 0]
    channels = []
    for start in (5, 3, 1):
        k = (angle + start).remainder(6)
        channels.append(high - spread * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def mean(x: Tensor) -> Tensor:
    """Average over the pixels of each image, row by row, so that the batch's size cannot change the rounding.

    Args:
        x: float32 [n, C, H, W].

    Returns:
        float32 [n, C, 1, 1].
    """
    return x.to(torch.float64).mean(-1, keepdim=True).mean(-2, keepdim=True).to(torch.float32)


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = _wide(factor, x)
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def _wide(factor: Tensor, x: Tensor) -> Tensor:
    return factor.to(x)[:, None, None, None]
