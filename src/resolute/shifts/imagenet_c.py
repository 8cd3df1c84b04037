"""The corruptions of ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich 2019), made anew from the seeds.

The constants are those of the authors' make_imagenet_c.py and make_cifar_c.py. Frost is drawn, not photographed.
x is float32 [n, C, H, W], whole multiples of 1/255; results may leave [0, 1].
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from resolute import transforms
from resolute.data.dataset import SMALL
from resolute.shifts import draws, everyday
from resolute.shifts.shift import Shift, drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from resolute.data.dataset import DataInfo


def speckle_noise(x: Tensor, seeds: Tensor, std: float) -> Tensor:
    """Add normal numbers times the pixel."""
    return x + x * (std * draws.normal(seeds, x[0].numel()).view_as(x))


def shot_noise(x: Tensor, seeds: Tensor, light: float) -> Tensor:
    """Count photons: Poisson numbers of mean x * light, divided by light."""
    return poisson(x, draws.uniform(seeds, x[0].numel()).view(x.shape), light) / light


def poisson(x: Tensor, u: Tensor, light: float) -> Tensor:
    """Invert the distribution function of Poisson numbers of mean x * light."""
    table, width = _distribution(light)
    level = (255 * x).round().to(torch.int64)
    found = torch.searchsorted(table.to(x.device), level + u)
    return (found - level * width).clamp(0, width - 1).to(torch.float32)


@functools.lru_cache(maxsize=16)
def _distribution(light: float) -> tuple[Tensor, int]:
    """For each of the 256 levels its distribution function, raised by the level so that all make one sorted row."""
    width = math.ceil(light + 8 * math.sqrt(light) + 12)
    k, level = torch.arange(1, width + 1, dtype=torch.float64), torch.arange(256, dtype=torch.float64)[:, None]
    below = torch.special.gammaincc(k.expand(256, -1), (level * light / 255).expand(-1, width))
    return (level + below).flatten(), width


def impulse_noise(x: Tensor, seeds: Tensor, amount: float) -> Tensor:
    """Make a share of the values black or white, each as likely."""
    word = draws.draw_words(seeds, x[0].numel()).view(x.shape)
    return torch.where(word < amount * 2**32, (word & 1).to(x.dtype), x)


def brightness(x: Tensor, seeds: Tensor, more: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Raise the value of hue, saturation and value, up to 1."""
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp(min=1 / 255)), raised)


def contrast(x: Tensor, seeds: Tensor, kept: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Draw every pixel towards the mean of its channel."""
    mean = transforms.mean(x)
    return (x - mean) * kept + mean


def saturate(x: Tensor, seeds: Tensor, line: tuple[float, float]) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Change the saturation of hue, saturation and value; grey pixels, whose hue is 0, turn red if it is raised."""
    if x.shape[1] == 1:
        return x
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    saturation = (line[0] * spread / value.clamp(min=1 / 255) + line[1]).clamp(0, 1)
    red = torch.tensor([0.0, 1.0, 1.0], device=x.device)[:, None, None]
    share = torch.where(spread > 0, (value - x) / spread.clamp(min=1 / 255), red)
    return value - value * saturation * share


def pixelate(x: Tensor, seeds: Tensor, kept: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Shrink and enlarge again, both with a box filter, as Pillow does."""
    height, width = x.shape[2:]
    small = transforms.box((255 * x).round().to(torch.int32), (max(1, int(height * kept)), max(1, int(width * kept))))
    return transforms.box(small, (height, width)) / 255


def jpeg_compression(x: Tensor, seeds: Tensor, quality: int) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Encode as JPEG and decode."""
    return transforms.compress(x, quality)


def elastic_transform(x: Tensor, seeds: Tensor, warp: tuple[float, float, float]) -> Tensor:
    """Map a triangle to one whose corners are moved, then move every pixel by smoothed noise."""
    height, width = x.shape[2:]
    side = min(height, width)
    size, sigma, reach = (share * side for share in warp)
    rows = torch.arange(height, device=x.device, dtype=torch.float64)[:, None]
    columns = torch.arange(width, device=x.device, dtype=torch.float64)[None, :]
    x = transforms.sample_pixels(x, *_triangle(seeds, height, width, reach, rows, columns), "mirror")
    if size == 0:
        return x
    noise = 2 * draws.uniform(seeds, 2 * height * width, stream=1).view(-1, 2, height, width) - 1
    moves = size * transforms.smooth(noise.to(torch.float32), sigma, "reflect", truncate=3)
    return transforms.sample_pixels(x, rows + moves[:, 1], columns + moves[:, 0], "symmetric")


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


SLACK = 3e-4
"""Added before bytes are cut off, so that 127.9999 from float32 is 128."""


def gaussian_blur(x: Tensor, seeds: Tensor, sigma: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a Gaussian, the border repeated."""
    return transforms.smooth(x, sigma)


def defocus_blur(x: Tensor, seeds: Tensor, lens: tuple[float, float]) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a disk."""
    return transforms.correlate(x, transforms.disk(*lens))


def motion_blur(x: Tensor, seeds: Tensor, line: tuple[int, float]) -> Tensor:
    """Blur along a line whose angle is drawn for each image, uniform in plus or minus 45 degrees."""
    return (255 * transforms.motion(x, *line, draws.between(-45, 45, seeds))).round() / 255


def zoom_blur(x: Tensor, seeds: Tensor, factors: Sequence[float]) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Average the image with itself at several enlargements."""
    return transforms.average_zooms(x, factors)


def glass_blur(x: Tensor, seeds: Tensor, glass: tuple[float, int, int]) -> Tensor:
    """Blur, swap pixels with near ones, and blur again."""
    sigma, reach, rounds = glass
    blurred = (255 * transforms.smooth(x, sigma) + SLACK).floor() / 255
    order = shuffled(seeds, x.shape[2], x.shape[3], reach, rounds)
    mixed = blurred.flatten(2).gather(2, order[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return transforms.smooth(mixed, sigma)


def shuffled(seeds: Tensor, height: int, width: int, reach: int, rounds: int) -> Tensor:
    """Swap each pixel with one drawn from -reach to reach - 1 rows and columns away, the last pixel first."""
    # The swaps stand in a row, but those of pixels far apart do not touch each other. Pixel (h, w) has its turn at time
    # (width - w) + (2 reach + 1) (height - h): every pixel that it might meet keeps its place before or after it, and
    # all of one time are swapped at once, in all images.
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
    # As in the authors' loops, no pixel is swapped of an image too narrow to be swapped within reach.
    rows = torch.arange(max(height - reach, reach), reach, -1)[:, None]
    columns = torch.arange(max(width - reach, reach), reach, -1)
    time = (width - columns) + (2 * reach + 1) * (height - rows)
    order = time.flatten().argsort(stable=True)
    return (rows * width + columns).flatten()[order], time.unique(return_counts=True)[1].tolist()


WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
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
    """Add drops."""
    mean, std, smoothing, threshold, last, mud = drops
    height, width = x.shape[2:]
    liquid = mean + std * draws.normal(seeds, height * width).view(-1, 1, height, width)
    liquid = transforms.smooth(liquid, smoothing)
    if mud:
        cover = transforms.smooth((liquid > threshold).to(torch.float32), last)
        cover = torch.where(cover < 0.8, torch.zeros_like(cover), cover)
        return x * (1 - cover) + cover * _colour(MUD, x)
    liquid = torch.where(liquid < threshold, torch.zeros_like(liquid), liquid)
    layer = (255 * liquid + SLACK).floor().clamp(0, 255)
    light = layer * relief(layer)
    light = light / light.amax((2, 3), keepdim=True).clamp(min=1)
    return x + last * light * _colour(WATER, x)


def _colour(colour: tuple[float, float, float], x: Tensor) -> Tensor:
    shown = colour if x.shape[1] == 3 else (sum(g * c for g, c in zip(transforms.GREY_WEIGHTS, colour, strict=True)),)
    return torch.tensor(shown, device=x.device)[:, None, None]


def relief(layer: Tensor) -> Tensor:
    """Shade drops as if light came from one corner."""
    distance = distances(edges(layer)).clamp(max=FAR)
    kernel = torch.tensor(EMBOSS, dtype=torch.float32)
    shade = equalised((_box(distance) + 1e-5).floor())
    shade = transforms.correlate(shade, kernel).clamp(0, 255)
    return _box(shade).round()


def _box(x: Tensor) -> Tensor:
    return transforms.correlate(x, torch.ones(3, 3)) / 9


def edges(layer: Tensor) -> Tensor:
    """Find Canny's edges."""
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
                rising, (size > near[-1, 1]) & (size > near[1, -1]), (size > near[-1, -1]) & (size > near[1, 1])
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
    """Measure the way to the nearest marked pixel by straight, diagonal and knight's moves, up to `FAR`."""
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
    """Spread the levels of each image so that each is as frequent, as OpenCV's ``equalizeHist`` does."""
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


LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in grey: ITU-R BT.601, as in OpenCV."""
ICE = (0.9, 1.02, 1.1)
"""Red, green and blue of frost over its grey, as in the photographs of the authors' package."""
LEVEL, RELIEF = (0.48, 0.81), (0.06, 0.14)
"""Mean and standard deviation within an image, spread as over crops of 224 pixels of those photographs."""


def fog(x: Tensor, seeds: Tensor, density: tuple[float, float]) -> Tensor:
    """Add a plasma fractal and darken, so that the brightest pixel keeps its value."""
    amount, decay = density
    high = x.amax((1, 2, 3), keepdim=True)
    cloud = plasma(seeds, max(x.shape[2:]), decay)[:, None, : x.shape[2], : x.shape[3]]
    return (x + amount * cloud) * high / (high + amount)


def plasma(seeds: Tensor, side: int, decay: float) -> Tensor:
    """Draw a plasma fractal for each image by the diamond-square algorithm, its edges joined."""
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
    """Whiten, and add flakes that fall in a direction drawn for each image."""
    mean, std, zoom, threshold, radius, sigma, kept = fall
    height, width = x.shape[2:]
    flakes = mean + std * draws.normal(seeds, height * width).view(-1, 1, height, width)
    flakes = transforms.zoomed(flakes, zoom)
    flakes = torch.where(flakes < threshold, torch.zeros_like(flakes), flakes).clamp(0, 1)
    flakes = (255 * flakes + SLACK).floor() / 255
    angle = draws.between(-135, -45, seeds, stream=1)
    flakes = (255 * transforms.motion(flakes, radius, sigma, angle)).round() / 255
    grey = transforms.grey(x, LUMA)
    return kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey + 0.5) + flakes + flakes.rot90(2, (2, 3))


def frost(x: Tensor, seeds: Tensor, blend: tuple[float, float]) -> Tensor:
    """Blend with frost. The released sets use five photographs; here crystals are drawn for each image."""
    ice = crystals(seeds, x.shape[2], x.shape[3])
    if x.shape[1] == 3:
        ice = ice * torch.tensor(ICE, device=x.device)[:, None, None]
    return blend[0] * x + blend[1] * ice.clamp(0, 1)


def crystals(seeds: Tensor, height: int, width: int) -> Tensor:
    """Draw veins of all scales: (1 - |noise|) squared is bright along the lines where smooth noise is zero."""
    total = torch.zeros(len(seeds), 1, height, width, device=seeds.device)
    cells = 4
    while 2 * cells <= max(height, width, 8):
        lattice = draws.normal(seeds, cells * cells, stream=cells).view(-1, 1, cells, cells)
        smooth = F.interpolate(lattice, size=(height, width), mode="bilinear", align_corners=True)
        total += (1 - smooth.abs()).clamp(min=0) ** 2
        cells *= 2
    total = total - transforms.mean(total)
    total = total / transforms.mean(total**2).sqrt().clamp(min=1e-12)  # of one pixel there is no deviation
    level, relief = (draws.between(*bounds, seeds, stream).to(total) for stream, bounds in enumerate((LEVEL, RELIEF)))
    return (level[:, None, None, None] + relief[:, None, None, None] * total).clamp(0, 1)


class Corruption(NamedTuple):
    """One corruption.

    Attributes:
        change: ``(x, seeds, constant) -> x'``.
        small: Its constants at severities 1 to 5 for images as small as CIFAR's.
        large: The same for images as large as ImageNet's.
    """

    change: Callable[[Tensor, Tensor, Any], Tensor]
    small: tuple[Any, ...]
    large: tuple[Any, ...]


def _zooms(*ends_and_steps: tuple[float, float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(np.arange(1, end, step).tolist()) for end, step in ends_and_steps)


def _shares(side: int, *constants: tuple[float, float, float]) -> tuple[tuple[float, ...], ...]:
    """The authors wrote 244 where the images have 224 pixels."""
    return tuple(tuple(side / 224 * value for value in constant) for constant in constants)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(everyday.add_noise, (0.04, 0.06, 0.08, 0.09, 0.1), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption(shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": Corruption(
        defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": Corruption(
        glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": Corruption(
        motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    ),
    "zoom_blur": Corruption(
        zoom_blur,
        _zooms((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        _zooms((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": Corruption(
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": Corruption(
        frost,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": Corruption(
        fog,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": Corruption(
        elastic_transform,
        _shares(224, (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        _shares(244, (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    "pixelate": Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption(jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}
"""The 15 of the benchmark."""

HELD_OUT: dict[str, Corruption] = {
    "speckle_noise": Corruption(speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": Corruption(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "spatter": Corruption(
        spatter,
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    "saturate": Corruption(
        saturate,
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
}
"""The four that are kept for choosing settings, and are no part of mCE."""


def corruptions(info: DataInfo) -> list[Shift]:
    """Corrupt as ImageNet-C or CIFAR-10-C does, by the size of the images: 15 corruptions."""
    return _listed("corruptions", CORRUPTIONS, info)


def held_out(info: DataInfo) -> list[Shift]:
    """Corrupt by the four that ImageNet-C keeps for choosing settings."""
    return _listed("corruptions-held-out", HELD_OUT, info)


def _listed(suite: str, table: dict[str, Corruption], info: DataInfo) -> list[Shift]:
    small = max(info.shape[1:]) <= SMALL
    return [
        Shift(suite, name, float(severity), drawn(functools.partial(degrade, change=entry.change, constant=constant)))
        for name, entry in table.items()
        if info.shape[0] == 3 or name != "saturate"
        for severity, constant in enumerate(entry.small if small else entry.large, start=1)
    ]


def degrade(x: Tensor, seeds: Tensor, *, change: Callable[[Tensor, Tensor, Any], Tensor], constant: Any) -> Tensor:
    """Corrupt images of bytes to images of bytes, what is left over cut off as the authors' files have it."""
    changed = change((255 * x).round() / 255, seeds, constant).clamp(0, 1)
    return (255 * changed + SLACK).floor() / 255
