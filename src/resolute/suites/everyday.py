"""Other things that happen to images every day: moved, turned, scaled, blurred, noisy, dark, covered, compressed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from resolute.data.info import SMALL
from resolute.suites import colour, draws, filters, geometry, jpeg, noise
from resolute.suites.disturbances import listed

if TYPE_CHECKING:
    from torch import Tensor

    from resolute.data import DataInfo
    from resolute.suites.shift import Shift

ASPECT = (0.3, 3.3)
"""Height over width of what is erased: torchvision's default."""


def everyday(info: DataInfo) -> list[Shift]:
    """Translate, rotate, scale, blur, add noise, change brightness, erase a rectangle, compress as JPEG.

    Args:
        info: Description of the data set; images of up to 64 pixels a side are blurred by fewer pixels.

    Returns:
        Three severities of each.
    """
    sigmas = (0.4, 0.7, 1.0) if max(info.shape[1:]) <= SMALL else (1.0, 2.0, 4.0)
    return listed(
        "everyday",
        [
            ("translation", (0.05, 0.1, 0.2), translation),
            ("rotation", (5.0, 15.0, 30.0), rotation),
            ("scale", (0.1, 0.2, 0.4), scale),
            ("blur", sigmas, blur),
            ("noise", (0.02, 0.05, 0.1), additive),
            ("brightness", (0.1, 0.2, 0.4), brightness),
            ("erasing", (0.05, 0.1, 0.2), erasing),
            ("jpeg", (25.0, 50.0, 75.0), compression),
        ],
    )


def translation(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Move each image in a random direction by a share of its shorter side; bilinear, black outside.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The share.

    Returns:
        Like x.
    """
    direction = draws.between(0, 2 * math.pi, seeds)
    far = severity * min(x.shape[2:])
    return geometry.affine(x, right=far * direction.cos(), down=far * direction.sin())


def rotation(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Turn each image about its centre; bilinear, black outside.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The angle is uniform in plus or minus this many degrees.

    Returns:
        Like x.
    """
    return geometry.affine(x, angle=draws.between(-severity, severity, seeds))


def scale(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Shrink or enlarge each image about its centre; bilinear, black outside.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The logarithm of the factor is uniform between plus and minus that of 1 + severity.

    Returns:
        Like x.
    """
    reach = math.log1p(severity)
    return geometry.affine(x, scale=draws.between(-reach, reach, seeds).exp())


def blur(x: Tensor, seeds: Tensor, severity: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a Gaussian of three standard deviations to each side, mirrored at the border pixel.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        severity: The standard deviation in pixels.

    Returns:
        Like x.
    """
    return filters.gaussian(x, severity, "mirror", truncate=3)


def additive(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Add Gaussian noise.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The standard deviation in pixel units.

    Returns:
        Like x, not clipped.
    """
    return noise.add(x, seeds, std=severity)


def brightness(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Multiply the pixels of each image by a factor.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The factor is uniform in [1 - severity, 1 + severity].

    Returns:
        Like x.
    """
    return colour.brightness(x, draws.between(1 - severity, 1 + severity, seeds))


def erasing(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Make a rectangle of each image black: torchvision's ``RandomErasing`` at one area and with probability 1.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: Share of the image. The height over the width is log-uniform in `ASPECT`, each place equally likely;
            a side that would be longer than the image is cut to it.

    Returns:
        Like x.
    """
    height, width = x.shape[2:]
    aspect = draws.between(math.log(ASPECT[0]), math.log(ASPECT[1]), seeds).exp()
    area = severity * height * width
    high = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    place = draws.uniform(seeds, 2, stream=1)
    top, left = (place[:, 0] * (height - high + 1)).floor(), (place[:, 1] * (width - wide + 1)).floor()
    return erase(x, top, left, high, wide)


def erase(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Make one rectangle of each image black.

    Args:
        x: float32 [n, C, H, W].
        top: [n], its first row.
        left: [n], its first column.
        height: [n], its rows.
        width: [n], its columns.

    Returns:
        Like x.
    """
    rows = torch.arange(x.shape[2], device=x.device)
    columns = torch.arange(x.shape[3], device=x.device)
    down = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    right = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return x.masked_fill((down[:, :, None] & right[:, None, :])[:, None], 0)


def compression(x: Tensor, seeds: Tensor, severity: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Encode each image as JPEG and decode it.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        severity: 100 less the quality.

    Returns:
        Like x.
    """
    return jpeg.compress(x, 100 - round(severity))
