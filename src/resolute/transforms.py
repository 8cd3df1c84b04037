"""Batched image transforms: geometry, colour, filters and JPEG, used by augmentation and by shifts.

x is float32 [n, C, H, W] in [0, 1]; parameters are one for each image. Positions are in pixels, the centre of the
first pixel is 0. The result of an image does not depend on the batch around it.
"""

from __future__ import annotations

import functools
import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor


def flip(x: Tensor, which: Tensor) -> Tensor:
    """Mirror some images left to right."""
    return torch.where(which[:, None, None, None], x.flip(-1), x)


def window(
    x: Tensor, top: Tensor, left: Tensor, padding: Literal["zeros", "reflect"] = "zeros", flipped: Tensor | None = None
) -> Tensor:
    """Cut a window of the image's own size that may reach over its border, and mirror some left to right."""
    height, width = x.shape[2:]
    columns = torch.arange(width, device=x.device).expand(len(x), width)
    if flipped is not None:
        columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    rows, columns = torch.arange(height, device=x.device) + top[:, None], columns + left[:, None]
    # Mirroring keeps every index inside; for zeros, what it reads outside the image is blanked.
    cut = pick(x, _mirrored(rows, height)[:, :, None], _mirrored(columns, width)[:, None, :])
    if padding == "zeros":
        inside = _within(rows, 0, height)[:, :, None] & _within(columns, 0, width)[:, None, :]
        cut.masked_fill_(~inside[:, None], 0)
    return cut


def pick(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take a pixel of the same image for every pixel."""
    index = rows * x.shape[3] + columns
    n, h, w = index.shape
    flat = index.reshape(n, 1, h * w).expand(len(x), x.shape[1], h * w)
    return x.flatten(2).gather(2, flat).view(len(x), x.shape[1], h, w)


def resized_crop(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Cut a window out of every image and bring it back to the image's size, bilinearly."""
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
    """Turn and scale about the centre, then move; bilinear, black outside, as torchvision's ``affine`` does."""
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
    return sample_pixels(x, from_rows, from_columns)


def sample_pixels(
    x: Tensor, rows: Tensor, columns: Tensor, outside: Literal["zeros", "mirror", "symmetric"] = "zeros"
) -> Tensor:
    """Look up positions between the pixels, bilinearly."""
    height, width = x.shape[2:]
    corners = outside == "mirror"
    if corners:
        grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1)
    else:
        grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    padding = "zeros" if outside == "zeros" else "reflection"
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode=padding, align_corners=corners)


def rectangles(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Mark one rectangle of each image: bool [n, 1, H, W]."""
    top, left, height, width = (value[:, None] for value in (top, left, height, width))
    rows = _within(torch.arange(x.shape[2], device=x.device), top, top + height)
    columns = _within(torch.arange(x.shape[3], device=x.device), left, left + width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _within(index: Tensor, first: Tensor | int, end: Tensor | int) -> Tensor:
    return (index >= first) & (index < end)


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


GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Share of red, green and blue in grey: ITU-R BT.601, rounded as in torchvision."""


def grey(x: Tensor, weights: tuple[float, float, float] = GREY_WEIGHTS) -> Tensor:
    """Weigh the channels to one."""
    if x.shape[1] == 1:
        return x
    red, green, blue = weights
    return (red * x[:, 0] + green * x[:, 1] + blue * x[:, 2])[:, None]


def greyscale(x: Tensor, which: Tensor) -> Tensor:
    """Make some images grey, in three equal channels."""
    return torch.where(which[:, None, None, None], grey(x), x)


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return (x * _wide(factor, x)).clamp(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey of the image."""
    return _blend(x, mean(grey(x)), factor)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image."""
    return x if x.shape[1] == 1 else _blend(x, grey(x), factor)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the circle of hues."""
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
    """Average over the pixels of each image, row by row, so that the batch's size cannot change the rounding."""
    return x.to(torch.float64).mean(-1, keepdim=True).mean(-2, keepdim=True).to(torch.float32)


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = _wide(factor, x)
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def _wide(factor: Tensor, x: Tensor) -> Tensor:
    return factor.to(x)[:, None, None, None]


Border = Literal["nearest", "reflect", "mirror"]
"""What lies outside, in SciPy's words: the border pixel repeated; mirrored at the outer edge; at the border pixel."""

DIRECT = 25
"""Largest number of taps of a kernel that are summed one by one; beyond it, the fast Fourier transform is quicker."""


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one matrix down the columns of every image and one along its rows."""
    return rows.to(x.device) @ x @ columns.to(x.device).T


def smooth(x: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Tensor:
    """Blur as ``scipy.ndimage.gaussian_filter`` and ``skimage.filters.gaussian`` do."""
    return separable(x, *(gaussian_matrix(size, sigma, border, int(truncate * sigma + 0.5)) for size in x.shape[2:]))


@functools.lru_cache(maxsize=128)
def gaussian_matrix(size: int, sigma: float, border: Border, radius: int) -> Tensor:
    """Write a blur of one dimension as a matrix."""
    at = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    matrix = np.zeros((size, size))
    every = np.arange(size)
    for offset, weight in zip(at, weights / weights.sum(), strict=True):
        np.add.at(matrix, (every, _outside(every + offset, size, border)), weight)
    return torch.from_numpy(matrix).to(torch.float32)


def _outside(index: NDArray[np.int64], size: int, border: Border) -> NDArray[np.int64]:
    if border == "nearest" or size == 1:
        return index.clip(0, size - 1)
    period = 2 * size if border == "reflect" else 2 * size - 2
    folded = index % period
    return np.minimum(folded, period - (1 if border == "reflect" else 0) - folded)


def correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Sum each pixel's neighbourhood with the weights of a kernel; the image is mirrored at its border pixel."""
    height, width = x.shape[2:]
    down, right = (size // 2 for size in kernel.shape)
    rows = torch.from_numpy(_outside(np.arange(-down, height + down), height, "mirror")).to(x.device)
    columns = torch.from_numpy(_outside(np.arange(-right, width + right), width, "mirror")).to(x.device)
    padded = x.index_select(2, rows).index_select(3, columns)
    if kernel.numel() <= DIRECT:
        total = torch.zeros_like(x)
        for i, j in np.ndindex(*kernel.shape):
            if kernel[i, j]:
                total += float(kernel[i, j]) * padded[:, :, i : i + height, j : j + width]
        return total
    size = [_smooth(length) for length in padded.shape[2:]]
    spectrum = torch.fft.rfft2(kernel.to(x.device), s=size).conj()
    summed: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * spectrum, s=size)
    return summed[:, :, :height, :width]


def _smooth(length: int) -> int:
    """The next length that is a product of 2, 3 and 5, for which the Fourier transform is quick."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def disk(radius: float, sigma: float) -> Tensor:
    """Make the kernel of a lens out of focus: a disk, its edge softened, as ImageNet-C does."""
    reach = 8 if radius <= 8 else int(radius)
    at = np.arange(-reach, reach + 1)
    shape = ((at[:, None] ** 2 + at**2) <= radius**2).astype(np.float64)
    taps = 1 if radius <= 8 else 2
    matrix = gaussian_matrix(len(at), sigma, "mirror", taps).double().numpy()
    kernel = matrix @ (shape / shape.sum()) @ matrix.T
    keep = np.flatnonzero(kernel.max(axis=0) > 1e-12)
    kernel = kernel[keep[0] : keep[-1] + 1, keep[0] : keep[-1] + 1]
    return torch.from_numpy(kernel).to(torch.float32)


def motion(x: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """Blur along a line that begins at each pixel, as ImageMagick's motion blur does; borders are repeated."""
    taps = torch.arange(2 * radius + 1, device=x.device, dtype=torch.float64)
    fall = torch.exp(-(taps**2) / (2 * sigma**2))
    weights = (fall / fall.sum()).tolist()
    turned = angle.to(torch.float64)[:, None] * (math.pi / 180)
    down = torch.ceil(taps * turned.sin() - 0.5).to(torch.int64)
    right = torch.ceil(taps * turned.cos() - 0.5).to(torch.int64)
    n, channels, height, width = x.shape
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    flat, total = x.flatten(2), torch.zeros_like(x).flatten(2)
    for tap, weight in enumerate(weights):
        row = (rows + down[:, tap, None]).clamp(0, height - 1) * width
        index = row[:, :, None] + (columns + right[:, tap, None]).clamp(0, width - 1)[:, None, :]
        total += weight * flat.gather(2, index.view(n, 1, -1).expand(n, channels, -1))
    return total.view_as(x)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Enlarge the middle, bilinearly, as ImageNet-C's ``clipped_zoom`` does."""
    parts = [math.ceil(size / factor) for size in x.shape[2:]]
    sizes = [round(part * factor) for part in parts]
    top, left = ((size - part) // 2 for size, part in zip(x.shape[2:], parts, strict=True))
    part = x[:, :, top : top + parts[0], left : left + parts[1]]
    large = F.interpolate(part, size=sizes, mode="bilinear", align_corners=True)
    top, left = ((big - size) // 2 for big, size in zip(sizes, x.shape[2:], strict=True))
    return large[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def average_zooms(x: Tensor, factors: Sequence[float]) -> Tensor:
    """Average the image with itself at several enlargements."""
    total = x.clone()
    for factor in factors:
        total += zoomed(x, factor)
    return total / (len(factors) + 1)


def box(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with Pillow's box filter, to bytes after the columns and after the rows, as it does."""
    for axis in (3, 2):
        begin, end = _boxes(size[axis - 2], values.shape[axis]).to(values.device)
        if bool((end - begin == 1).all()):
            values = values.index_select(axis, begin)
            continue
        sums = F.pad(values.cumsum(axis, dtype=torch.int32), (1, 0) if axis == 3 else (0, 0, 1, 0))
        sums = sums.index_select(axis, end) - sums.index_select(axis, begin)
        weights = (2**22 / (end - begin)).round().to(torch.int32)  # of 22 bits, as Pillow's for bytes
        values = (sums * (weights if axis == 3 else weights[:, None]) + 2**21) >> 22
    return values


def _boxes(size: int, given: int) -> Tensor:
    """Say which pixels each pixel wanted is the mean of: int64 [2, size], first and one after the last."""
    scale = given / size
    stretch = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    at = (np.arange(given) - centre[:, None] + 0.5) / stretch
    inside = (at > -0.5) & (at <= 0.5)
    begin = inside.argmax(1)
    return torch.from_numpy(np.stack([begin, begin + inside.sum(1)]))


def compress(x: Tensor, quality: int) -> Tensor:
    """Encode every image as JPEG and decode it, with Pillow's defaults (colour at half resolution)."""
    # The codec runs on the CPU: images of another device travel there and back.
    pixels = (255 * x).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        decoded = np.stack(list(threads.map(lambda image: _coded(image, quality), pixels)))
    return torch.from_numpy(decoded).movedim(-1, 1).to(x.device, torch.float32).contiguous() / 255


def _coded(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream)).reshape(image.shape)


CROP_ASPECT = (3 / 4, 4 / 3)
"""Width over height of a crop, drawn uniformly on a logarithmic scale (Szegedy et al., 2015; torchvision)."""
_LOW, _HIGH = map(math.log, CROP_ASPECT)
CROP_TRIES = 10
"""Crops drawn for an image; the first that fits is used, and the central square if none does, as in torchvision."""


def draw_crops(share: float, height: int, width: int, n: int, generator: torch.Generator) -> Tensor:
    """Draw a crop for each of ``n`` images of one size, by the law of torchvision's ``RandomResizedCrop``."""
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
    """Draw one crop, the same that :func:`draw_crops` draws for one image, in a tenth of the time."""
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
    """Cut out a rectangle of each image and bring it to the image's own size, bilinearly."""
    # A crop is never larger than its image, so that nothing needs a filter against aliasing.
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
    """Turn each image about its centre; each pixel is the nearest one of the image, and black outside of it."""
    n, channels, height, width = x.shape
    radians = angles.to(torch.float32) * (math.pi / 180)
    cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
    down = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    row = (down * cos + right * sin + (height - 1) / 2).round().long()
    column = (right * cos - down * sin + (width - 1) / 2).round().long()
    inside = _within(row, 0, height) & _within(column, 0, width)
    source = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).view(n, 1, -1)
    out = x.flatten(2).gather(2, source.expand(n, channels, -1)).view_as(x)
    return out.masked_fill_(~inside[:, None], 0)
