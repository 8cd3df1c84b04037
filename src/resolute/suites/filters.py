"""Linear filters of a batch of images, written so that each image is summed alike whatever the batch.

x is float32 [n, C, H, W].
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Border = Literal["nearest", "reflect", "mirror"]
"""What lies outside, in SciPy's words: the border pixel repeated; mirrored at the outer edge; at the border pixel."""

DIRECT = 25
"""Largest number of taps of a kernel that are summed one by one; beyond it, the fast Fourier transform is quicker."""


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one matrix down the columns of every image and one along its rows.

    Args:
        x: float32 [n, C, H, W].
        rows: float32 [h, H].
        columns: float32 [w, W].

    Returns:
        float32 [n, C, h, w].
    """
    return rows.to(x.device) @ x @ columns.to(x.device).T


def gaussian(x: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Tensor:
    """Blur as ``scipy.ndimage.gaussian_filter`` and ``skimage.filters.gaussian`` do.

    Args:
        x: float32 [n, C, H, W].
        sigma: Standard deviation in pixels, above 0.
        border: What lies outside.
        truncate: Radius of the kernel in standard deviations.

    Returns:
        Like x.
    """
    return separable(x, *(gaussian_matrix(size, sigma, border, int(truncate * sigma + 0.5)) for size in x.shape[2:]))


@functools.lru_cache(maxsize=128)
def gaussian_matrix(size: int, sigma: float, border: Border, radius: int) -> Tensor:
    """Write a blur of one dimension as a matrix.

    Args:
        size: Pixels.
        sigma: Standard deviation in pixels.
        border: What lies outside.
        radius: Taps on each side.

    Returns:
        float32 [size, size].
    """
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
    """Sum each pixel's neighbourhood with the weights of a kernel; outside, the image is mirrored at its border pixel.

    Args:
        x: float32 [n, C, H, W].
        kernel: float32 [k, l], both odd; not turned around.

    Returns:
        Like x.
    """
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
    """Make the kernel of a lens out of focus: a disk, its edge softened, as ImageNet-C does.

    Args:
        radius: Of the disk, in pixels.
        sigma: Of the Gaussian of 3x3 taps (5x5 for a radius above 8) that softens the edge.

    Returns:
        float32 [k, k], cut down to what is not zero.
    """
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
    """Blur along a line that begins at each pixel, as ImageMagick's motion blur does; borders are repeated.

    Args:
        x: float32 [n, C, H, W].
        radius: The line has 2 * radius + 1 pixels.
        sigma: Their weights fall as half a Gaussian, in pixels.
        angle: [n], degrees clockwise from the right.

    Returns:
        Like x.
    """
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
    """Enlarge the middle, bilinearly, as ImageNet-C's ``clipped_zoom`` does.

    Args:
        x: float32 [n, C, H, W].
        factor: At least 1.

    Returns:
        Like x.
    """
    parts = [math.ceil(size / factor) for size in x.shape[2:]]
    sizes = [round(part * factor) for part in parts]
    top, left = ((size - part) // 2 for size, part in zip(x.shape[2:], parts, strict=True))
    part = x[:, :, top : top + parts[0], left : left + parts[1]]
    large = F.interpolate(part, size=sizes, mode="bilinear", align_corners=True)
    top, left = ((big - size) // 2 for big, size in zip(sizes, x.shape[2:], strict=True))
    return large[:, :, top : top + x.shape[2], left : left + x.shape[3]]


def zoom_blur(x: Tensor, factors: Sequence[float]) -> Tensor:
    """Average the image with itself at several enlargements.

    Args:
        x: float32 [n, C, H, W].
        factors: The enlargements, each at least 1.

    Returns:
        Like x.
    """
    total = x.clone()
    for factor in factors:
        total += zoomed(x, factor)
    return total / (len(factors) + 1)


def box(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize with Pillow's box filter, to bytes after the columns and after the rows, as it does.

    Args:
        values: int32 [n, C, H, W] in 0..255.
        size: Height and width wanted.

    Returns:
        int32 [n, C, height, width] in 0..255.
    """
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
