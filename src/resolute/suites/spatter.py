"""Drops of water or mud on the lens, as ImageNet-C defines them with OpenCV's Canny edges and distance transform.

Inside, images are float32 [n, 1, H, W].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from resolute.suites import draws, filters
from resolute.suites.lens import SLACK

if TYPE_CHECKING:
    from torch import Tensor

WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
GREY = (0.2989, 0.587, 0.114)
LOW, HIGH = 50, 150
"""Canny's thresholds."""
FAR = 20.0
"""Distances are cut off here, in pixels."""
MOVES = {(0, 1): 1.0, (1, 1): 1.4, (1, 2): 2.1969}
"""Lengths of a straight, a diagonal and a knight's move: OpenCV's for its mask of 5x5 pixels."""
TAN = round(0.4142135623730951 * 2**15) / 2**15
"""Tangent of 22.5 degrees, rounded as in OpenCV."""
EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def spatter(x: Tensor, seeds: Tensor, drops: tuple[float, float, float, float, float, bool]) -> Tensor:
    """Add drops.

    Args:
        x: float32 [n, C, H, W], whole multiples of 1/255.
        seeds: int64 [n].
        drops: Mean, standard deviation and smoothing of the noise that becomes drops, the threshold below which there
            is none, how much they cover (for mud, the smoothing of their edge), and whether they are mud.

    Returns:
        Like x.
    """
    mean, std, smoothing, threshold, last, mud = drops
    height, width = x.shape[2:]
    liquid = mean + std * draws.normal(seeds, height * width).view(-1, 1, height, width)
    liquid = filters.gaussian(liquid, smoothing)
    if mud:
        cover = filters.gaussian((liquid > threshold).to(torch.float32), last)
        cover = torch.where(cover < 0.8, torch.zeros_like(cover), cover)
        return x * (1 - cover) + cover * _colour(MUD, x)
    liquid = torch.where(liquid < threshold, torch.zeros_like(liquid), liquid)
    layer = (255 * liquid + SLACK).floor().clamp(0, 255)
    light = layer * relief(layer)
    light = light / light.amax((2, 3), keepdim=True).clamp(min=1)
    return x + last * light * _colour(WATER, x)


def _colour(colour: tuple[float, float, float], x: Tensor) -> Tensor:
    shown = colour if x.shape[1] == 3 else (sum(g * c for g, c in zip(GREY, colour, strict=True)),)
    return torch.tensor(shown, device=x.device)[:, None, None]


def relief(layer: Tensor) -> Tensor:
    """Shade drops as if light came from one corner.

    Args:
        layer: float32 [n, 1, H, W], bytes.

    Returns:
        Like layer.
    """
    distance = distances(edges(layer)).clamp(max=FAR)
    kernel = torch.tensor(EMBOSS, dtype=torch.float32)
    shade = equalised((_box(distance) + 1e-5).floor())
    shade = filters.correlate(shade, kernel).clamp(0, 255)
    return _box(shade).round()


def _box(x: Tensor) -> Tensor:
    return filters.correlate(x, torch.ones(3, 3)) / 9


def edges(layer: Tensor) -> Tensor:
    """Find Canny's edges.

    Args:
        layer: float32 [n, 1, H, W], bytes.

    Returns:
        bool like layer.
    """
    padded = F.pad(layer, (1, 1, 1, 1), mode="replicate")
    down = padded[:, :, :, :-2] + 2 * padded[:, :, :, 1:-1] + padded[:, :, :, 2:]
    right = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    dy, dx = down[:, :, 2:] - down[:, :, :-2], right[:, :, :, 2:] - right[:, :, :, :-2]
    size = dx.abs() + dy.abs()
    near = {(i, j): _moved(size, i, j, 0.0) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    flat, steep = dy.abs() < TAN * dx.abs(), dy.abs() > (TAN + 2) * dx.abs()
    rising = (dx < 0) != (dy < 0)
    thin = torch.where(
        flat,
        (size > near[0, -1]) & (size >= near[0, 1]),
        torch.where(
            steep,
            (size > near[-1, 0]) & (size >= near[1, 0]),
            torch.where(
                rising,
                (size > near[-1, 1]) & (size > near[1, -1]),
                (size > near[-1, -1]) & (size > near[1, 1]),
            ),
        ),
    )
    weak = (thin & (size > LOW)).to(layer.dtype)
    found = (thin & (size > HIGH)).to(layer.dtype)
    while True:
        grown = F.max_pool2d(found, 3, stride=1, padding=1) * weak
        if torch.equal(grown, found):
            return found > 0
        found = grown


def distances(zero: Tensor) -> Tensor:
    """Measure the way to the nearest marked pixel by straight, diagonal and knight's moves, up to `FAR`.

    Args:
        zero: bool [n, 1, H, W].

    Returns:
        float32 like zero.
    """
    way = torch.where(zero, 0.0, FAR)
    while True:
        shorter = way
        for (i, j), length in MOVES.items():
            for a, b in {(s * p, t * q) for p, q in ((i, j), (j, i)) for s in (-1, 1) for t in (-1, 1)}:
                shorter = torch.minimum(shorter, _moved(way, a, b, FAR) + length)
        if torch.equal(shorter, way):
            return way
        way = shorter


def _moved(x: Tensor, down: int, right: int, outside: float) -> Tensor:
    """Each pixel's neighbour so many rows down and columns to the right."""
    padded = F.pad(x, (2, 2, 2, 2), value=outside)
    height, width = x.shape[2:]
    return padded[:, :, 2 + down : 2 + down + height, 2 + right : 2 + right + width]


def equalised(x: Tensor) -> Tensor:
    """Spread the levels of each image so that each is as frequent, as OpenCV's ``equalizeHist`` does.

    Args:
        x: float32 [n, 1, H, W], bytes.

    Returns:
        Like x.
    """
    level = x.flatten(1).to(torch.int64)
    counts = torch.zeros(len(x), 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, level, torch.ones_like(level))
    lowest = level.amin(1, keepdim=True)
    first = counts.gather(1, lowest)
    others = level.shape[1] - first
    scale = 255 / others.clamp(min=1).to(torch.float32)
    table = ((counts.cumsum(1) - first).to(torch.float32) * scale).round().clamp(0, 255)
    spread = table.gather(1, level)
    return torch.where(others == 0, lowest.to(torch.float32), spread).view_as(x)
