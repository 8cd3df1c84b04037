"""Gaussian noise on the pixels."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Literal

import torch

from resolute import transforms
from resolute.data.dataset import SMALL
from resolute.shifts import draws
from resolute.shifts.shift import Shift, drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from resolute.data.dataset import DataInfo


STRENGTHS = (0.1, 0.2, 0.3)
"""Standard deviations in pixel units, within the span of ImageNet-C's gaussian_noise, 0.08 to 0.38."""


def noise(info: DataInfo) -> list[Shift]:  # noqa: ARG001 every suite takes the data's description
    """Add Gaussian noise of several strengths, clipped to [0, 1].

    Args:
        info: Description of the data set.

    Returns:
        One shift for each of `STRENGTHS`.
    """
    return [Shift("noise", "gaussian-noise", std, drawn(functools.partial(add, std=std))) for std in STRENGTHS]


def add(x: Tensor, seeds: Tensor, *, std: float) -> Tensor:
    """Add independent normal numbers to every pixel and channel.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        std: Standard deviation, in pixel units.

    Returns:
        Like x, not clipped.
    """
    return x + std * draws.normal(seeds, x[0].numel()).view_as(x)


CROP = (1 / 16, 1 / 8, 1 / 4)
"""Largest offset, a share of the side. 1/8 is 4 of 32 pixels, the custom for CIFAR."""
FLIP = (0.25, 0.5, 1.0)
"""Probability. 0.5 is torchvision's default."""
GREYSCALE = (0.1, 0.5, 1.0)
"""Probability. 0.1 is torchvision's default."""
JITTER = (0.1, 0.2, 0.4)
"""Half the width of the factors of brightness, contrast and saturation; hue turns by up to a quarter of it. 0.4 and
0.1 are customary for ImageNet."""
FIVE_CROP = (1 / 8, 1 / 4, 1 / 2)
"""Share of the side that is cut off. 1/8 is 224 of 256 pixels, the custom for ImageNet."""
CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right", "centre")
"""In the order of torchvision's ``FiveCrop``."""

Change = tuple[str, "Sequence[float]", "Callable[..., Tensor]"]


def disturbances(info: DataInfo) -> list[Shift]:
    """Apply the paper's five: random crop, horizontal flip, greyscale, colour jitter, five-crop.

    Args:
        info: Description of the data set. Images of one channel have no greyscale.

    Returns:
        Three severities of each.
    """
    changes: list[Change] = [
        ("random-crop", CROP, random_crop),
        ("random-horizontal-flip", FLIP, random_flip),
        ("random-greyscale", GREYSCALE, random_greyscale),
        ("random-colour-jitter", JITTER, random_jitter),
        ("random-five-crop", FIVE_CROP, random_five_crop),
    ]
    if info.shape[0] == 1:
        changes = [change for change in changes if change[0] != "random-greyscale"]
    return listed("disturbances", changes)


def variants(info: DataInfo) -> list[Shift]:
    """Apply other readings of the five: reflected or resized crops, jitter without hue, each of the five crops.

    Args:
        info: Description of the data set. Images of one channel have no hue.

    Returns:
        Three severities of each.
    """
    changes: list[Change] = [
        ("random-crop-reflect", CROP, functools.partial(random_crop, padding="reflect")),
        ("random-crop-resized", FIVE_CROP, random_resized_crop),
    ]
    if info.shape[0] == 3:
        changes.append(("random-colour-jitter-no-hue", JITTER, functools.partial(random_jitter, hue=0.0)))
    for number, corner in enumerate(CORNERS):
        changes.append((f"five-crop-{corner}", FIVE_CROP, functools.partial(one_of_five, number=number)))
    return listed("disturbance-variants", changes)


def listed(suite: str, changes: Sequence[Change]) -> list[Shift]:
    """Make a shift for each severity of some changes.

    Args:
        suite: Name of the suite.
        changes: Name, severities, and ``(x, seeds, severity) -> x'``.

    Returns:
        The shifts, change by change.
    """
    return [
        Shift(suite, name, severity, drawn(functools.partial(change, severity=severity)))
        for name, severities, change in changes
        for severity in severities
    ]


def random_crop(x: Tensor, seeds: Tensor, severity: float, *, padding: Literal["zeros", "reflect"] = "zeros") -> Tensor:
    """Pad every side by a share of the shorter side and cut the image's own size out, each offset equally likely.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The share; at least one pixel.
        padding: Black, as in torchvision's ``RandomCrop``, or mirrored, as for wide residual networks.

    Returns:
        Like x.
    """
    reach = pixels(severity, min(x.shape[2:]))
    offset = draws.below(2 * reach + 1, seeds, 2) - reach
    return transforms.window(x, offset[:, 0], offset[:, 1], padding)


def random_resized_crop(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Cut a smaller window out, each place equally likely, and bring it back to the image's size.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: Share of each side that is cut off.

    Returns:
        Like x.
    """
    cut = [pixels(severity, size) for size in x.shape[2:]]
    top, left = (draws.below(less + 1, seeds, 1, stream)[:, 0] for stream, less in enumerate(cut))
    return transforms.resized_crop(x, top, left, x.shape[2] - cut[0], x.shape[3] - cut[1])


def random_flip(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Mirror each image left to right with a probability.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The probability.

    Returns:
        Like x.
    """
    return transforms.flip(x, happens(seeds, severity))


def random_greyscale(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Make each image grey with a probability.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The probability.

    Returns:
        Like x.
    """
    return transforms.greyscale(x, happens(seeds, severity))


def random_jitter(x: Tensor, seeds: Tensor, severity: float, *, hue: float = 0.25) -> Tensor:
    """Change brightness, contrast, saturation and hue by random factors in a random order, both drawn for each image.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The three factors are uniform in [1 - severity, 1 + severity].
        hue: The turn of the hue is uniform in plus or minus this share of the severity.

    Returns:
        Like x.
    """
    u = draws.uniform(seeds, 4)
    factors = 1 + severity * (2 * u - 1)
    factors[:, 3] = hue * severity * (2 * u[:, 3] - 1)
    order = draws.uniform(seeds, 4, stream=1).argsort(dim=1)
    return jitter(x, factors, order)


def jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue.

    Args:
        x: float32 [n, C, H, W].
        factors: [n, 4]: three factors and the turn of the hue.
        order: int64 [n, 4], a permutation of 0..3 for each image: which change comes first, second, ...

    Returns:
        Like x.
    """
    x = x.clone()
    for place in range(4):
        for number, change in enumerate(
            (transforms.brightness, transforms.contrast, transforms.saturation, transforms.hue)
        ):
            [mine] = torch.nonzero(order[:, place] == number, as_tuple=True)
            x[mine] = change(x[mine], factors[mine, number])
    return x


def random_five_crop(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Cut out one of the four corners or the centre, each equally likely, and bring it back to the image's size.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: Share of each side that is cut off.

    Returns:
        Like x.
    """
    return five_crop(x, draws.below(5, seeds, 1)[:, 0], severity)


def one_of_five(x: Tensor, seeds: Tensor, severity: float, *, number: int) -> Tensor:
    """Cut the same of the five crops out of every image.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        severity: Share of each side that is cut off.
        number: Place in `CORNERS`.

    Returns:
        Like x.
    """
    return five_crop(x, torch.full_like(seeds, number), severity)


def five_crop(x: Tensor, which: Tensor, severity: float) -> Tensor:
    """Cut out a corner or the centre, as torchvision's ``five_crop``, and bring it back to the image's size.

    Args:
        x: float32 [n, C, H, W].
        which: int64 [n], places in `CORNERS`.
        severity: Share of each side that is cut off.

    Returns:
        Like x.
    """
    down, right = (pixels(severity, size) for size in x.shape[2:])
    top = torch.tensor([0, 0, down, down, round(down / 2)], device=x.device)[which]
    left = torch.tensor([0, right, 0, right, round(right / 2)], device=x.device)[which]
    return transforms.resized_crop(x, top, left, x.shape[2] - down, x.shape[3] - right)


def happens(seeds: Tensor, probability: float) -> Tensor:
    """Decide for each image.

    Args:
        seeds: int64 [n].
        probability: From 0 to 1.

    Returns:
        bool [n].
    """
    return draws.uniform(seeds, 1)[:, 0] < probability


def pixels(share: float, size: int) -> int:
    """Turn a share of a side into pixels.

    Args:
        share: In (0, 1).
        size: The side in pixels, at least 2.

    Returns:
        At least 1, below ``size``.
    """
    return min(max(1, round(share * size)), size - 1)


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
    return transforms.affine(x, right=far * direction.cos(), down=far * direction.sin())


def rotation(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Turn each image about its centre; bilinear, black outside.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The angle is uniform in plus or minus this many degrees.

    Returns:
        Like x.
    """
    return transforms.affine(x, angle=draws.between(-severity, severity, seeds))


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
    return transforms.affine(x, scale=draws.between(-reach, reach, seeds).exp())


def blur(x: Tensor, seeds: Tensor, severity: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a Gaussian of three standard deviations to each side, mirrored at the border pixel.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n]; nothing is drawn.
        severity: The standard deviation in pixels.

    Returns:
        Like x.
    """
    return transforms.gaussian(x, severity, "mirror", truncate=3)


def additive(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Add Gaussian noise.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The standard deviation in pixel units.

    Returns:
        Like x, not clipped.
    """
    return add(x, seeds, std=severity)


def brightness(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Multiply the pixels of each image by a factor.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The factor is uniform in [1 - severity, 1 + severity].

    Returns:
        Like x.
    """
    return transforms.brightness(x, draws.between(1 - severity, 1 + severity, seeds))


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
    return transforms.compress(x, 100 - round(severity))
