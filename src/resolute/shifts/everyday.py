"""Everyday shifts: Gaussian noise, the paper's five disturbances (Table 1, Figure 1), and more of their kind.

The paper prints no parameters; docs/disturbances.md says what is customary, what was chosen here and why.
"""

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
    """Add Gaussian noise of several strengths, clipped to [0, 1]."""
    return shifts_of("noise", [("gaussian-noise", STRENGTHS, add_noise)])


def add_noise(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Add independent normal numbers to every pixel and channel."""
    return x + severity * draws.normal(seeds, x[0].numel()).view_as(x)


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
    """Apply the paper's five: random crop, horizontal flip, greyscale, colour jitter, five-crop."""
    changes: list[Change] = [
        ("random-crop", CROP, random_crop),
        ("random-horizontal-flip", FLIP, random_flip),
        ("random-greyscale", GREYSCALE, random_greyscale),
        ("random-colour-jitter", JITTER, random_jitter),
        ("random-five-crop", FIVE_CROP, random_five_crop),
    ]
    if info.shape[0] == 1:
        changes = [change for change in changes if change[0] != "random-greyscale"]
    return shifts_of("disturbances", changes)


def variants(info: DataInfo) -> list[Shift]:
    """Apply other readings of the five: reflected or resized crops, jitter without hue, each of the five crops."""
    changes: list[Change] = [
        ("random-crop-reflect", CROP, functools.partial(random_crop, padding="reflect")),
        ("random-crop-resized", FIVE_CROP, random_resized_crop),
    ]
    if info.shape[0] == 3:
        changes.append(("random-colour-jitter-no-hue", JITTER, functools.partial(random_jitter, hue=0.0)))
    for number, corner in enumerate(CORNERS):
        changes.append((f"five-crop-{corner}", FIVE_CROP, functools.partial(one_of_five, number=number)))
    return shifts_of("disturbance-variants", changes)


def shifts_of(suite: str, changes: Sequence[Change]) -> list[Shift]:
    """Make a shift for each severity of some changes."""
    return [
        Shift(suite, name, severity, drawn(functools.partial(change, severity=severity)))
        for name, severities, change in changes
        for severity in severities
    ]


def random_crop(x: Tensor, seeds: Tensor, severity: float, *, padding: Literal["zeros", "reflect"] = "zeros") -> Tensor:
    """Pad every side by a share of the shorter side and cut the image's own size out, each offset equally likely."""
    reach = pixels(severity, min(x.shape[2:]))
    offset = draws.below(2 * reach + 1, seeds, 2) - reach
    return transforms.window(x, offset[:, 0], offset[:, 1], padding)


def random_resized_crop(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Cut a smaller window out, each place equally likely, and bring it back to the image's size."""
    cut = [pixels(severity, size) for size in x.shape[2:]]
    top, left = (draws.below(less + 1, seeds, 1, stream)[:, 0] for stream, less in enumerate(cut))
    return transforms.resized_crop(x, top, left, x.shape[2] - cut[0], x.shape[3] - cut[1])


def random_flip(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Mirror each image left to right with a probability."""
    return transforms.flip(x, happens(seeds, severity))


def random_greyscale(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Make each image grey with a probability."""
    return transforms.greyscale(x, happens(seeds, severity))


def random_jitter(x: Tensor, seeds: Tensor, severity: float, *, hue: float = 0.25) -> Tensor:
    """Change brightness, contrast, saturation and hue by random factors in a random order, drawn for each image."""
    u = draws.uniform(seeds, 4)
    factors = 1 + severity * (2 * u - 1)
    factors[:, 3] = hue * severity * (2 * u[:, 3] - 1)
    order = draws.uniform(seeds, 4, stream=1).argsort(dim=1)
    return jitter(x, factors, order)


def jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue."""
    x = x.clone()
    for place in range(4):
        for number, change in enumerate(
            (
                transforms.adjust_brightness,
                transforms.adjust_contrast,
                transforms.adjust_saturation,
                transforms.adjust_hue,
            )
        ):
            [mine] = torch.nonzero(order[:, place] == number, as_tuple=True)
            x[mine] = change(x[mine], factors[mine, number])
    return x


def random_five_crop(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Cut out one of the four corners or the centre, each equally likely, and bring it back to the image's size."""
    return five_crop(x, draws.below(5, seeds, 1)[:, 0], severity)


def one_of_five(x: Tensor, seeds: Tensor, severity: float, *, number: int) -> Tensor:
    """Cut the same of the five crops out of every image."""
    return five_crop(x, torch.full_like(seeds, number), severity)


def five_crop(x: Tensor, which: Tensor, severity: float) -> Tensor:
    """Cut out a corner or the centre, as torchvision's ``five_crop``, and bring it back to the image's size."""
    down, right = (pixels(severity, size) for size in x.shape[2:])
    top = torch.tensor([0, 0, down, down, round(down / 2)], device=x.device)[which]
    left = torch.tensor([0, right, 0, right, round(right / 2)], device=x.device)[which]
    return transforms.resized_crop(x, top, left, x.shape[2] - down, x.shape[3] - right)


def happens(seeds: Tensor, probability: float) -> Tensor:
    """Decide for each image."""
    return draws.uniform(seeds, 1)[:, 0] < probability


def pixels(share: float, size: int) -> int:
    """Turn a share of a side into pixels."""
    return min(max(1, round(share * size)), size - 1)


ASPECT = (0.3, 3.3)
"""Height over width of what is erased: torchvision's default."""


def everyday(info: DataInfo) -> list[Shift]:
    """Translate, rotate, scale, blur, add noise, change brightness, erase a rectangle, compress as JPEG."""
    sigmas = (0.4, 0.7, 1.0) if max(info.shape[1:]) <= SMALL else (1.0, 2.0, 4.0)
    return shifts_of(
        "everyday",
        [
            ("translation", (0.05, 0.1, 0.2), translation),
            ("rotation", (5.0, 15.0, 30.0), rotation),
            ("scale", (0.1, 0.2, 0.4), scale),
            ("blur", sigmas, blur),
            ("noise", (0.02, 0.05, 0.1), add_noise),
            ("brightness", (0.1, 0.2, 0.4), lighten),
            ("erasing", (0.05, 0.1, 0.2), erasing),
            ("jpeg", (25.0, 50.0, 75.0), compression),
        ],
    )


def translation(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Move each image in a random direction by a share of its shorter side; bilinear, black outside."""
    direction = draws.between(0, 2 * math.pi, seeds)
    far = severity * min(x.shape[2:])
    return transforms.affine(x, right=far * direction.cos(), down=far * direction.sin())


def rotation(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Turn each image about its centre; bilinear, black outside."""
    return transforms.affine(x, angle=draws.between(-severity, severity, seeds))


def scale(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Shrink or enlarge each image about its centre; bilinear, black outside."""
    reach = math.log1p(severity)
    return transforms.affine(x, scale=draws.between(-reach, reach, seeds).exp())


def blur(x: Tensor, seeds: Tensor, severity: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Blur by a Gaussian of three standard deviations to each side, mirrored at the border pixel."""
    return transforms.smooth(x, severity, "mirror", truncate=3)


def lighten(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Multiply the pixels of each image by a factor."""
    return transforms.adjust_brightness(x, draws.between(1 - severity, 1 + severity, seeds))


def erasing(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Make a rectangle of each image black: torchvision's ``RandomErasing`` at one area and with probability 1."""
    height, width = x.shape[2:]
    aspect = draws.between(math.log(ASPECT[0]), math.log(ASPECT[1]), seeds).exp()
    area = severity * height * width
    high = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    place = draws.uniform(seeds, 2, stream=1)
    top, left = (place[:, 0] * (height - high + 1)).floor(), (place[:, 1] * (width - wide + 1)).floor()
    return x.masked_fill(transforms.rectangles(x, top, left, high, wide), 0)


def compression(x: Tensor, seeds: Tensor, severity: float) -> Tensor:  # noqa: ARG001 nothing is drawn
    """Encode each image as JPEG and decode it."""
    return transforms.compress(x, 100 - round(severity))
