"""The paper's five everyday disturbances (Table 1, Figure 1), each at several severities.

The paper prints no parameters; docs/disturbances.md says what is customary, what was chosen here and why.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import torch

from resolute.suites import colour, draws, geometry
from resolute.suites.shift import Shift, drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from resolute.data import DataInfo

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
    return geometry.window(x, offset[:, 0], offset[:, 1], padding)


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
    return geometry.resized_crop(x, top, left, x.shape[2] - cut[0], x.shape[3] - cut[1])


def random_flip(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Mirror each image left to right with a probability.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The probability.

    Returns:
        Like x.
    """
    return geometry.flip(x, happens(seeds, severity))


def random_greyscale(x: Tensor, seeds: Tensor, severity: float) -> Tensor:
    """Make each image grey with a probability.

    Args:
        x: float32 [n, C, H, W].
        seeds: int64 [n].
        severity: The probability.

    Returns:
        Like x.
    """
    return colour.greyscale(x, happens(seeds, severity))


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
        for number, change in enumerate((colour.brightness, colour.contrast, colour.saturation, colour.hue)):
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
    return geometry.resized_crop(x, top, left, x.shape[2] - down, x.shape[3] - right)


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
