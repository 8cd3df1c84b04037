"""Random crops, flips, rotations and erasing: a draw for each image of a batch, applied to the whole batch at once.

Drawing and applying are two functions, so that the fast one can be compared with a slow loop over the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from resolute import transforms
from resolute.config import Augment
from resolute.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ERASE_AREA", "ERASE_ASPECT", "ERASE_TRIES", "Augment", "Draws", "apply_draws", "augment", "draw_augmentation",
]  # fmt: skip

ERASE_AREA = (0.02, 0.4)
"""Share of the image that is erased (Zhong et al., 2020, "Random Erasing Data Augmentation")."""
ERASE_ASPECT = (0.3, 1 / 0.3)
"""Height over width of the erased rectangle, drawn uniformly as in the authors' code."""
ERASE_TRIES = 16
"""Rectangles drawn for an image; the first that fits is used. At 32x32 about one in sixteen does not fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The random choices for ``n`` images, on the device of their generator.

    Attributes:
        top: int64 [n] in 0..2*shift, row of the crop in the padded image.
        left: int64 [n] in 0..2*shift, column of the crop in the padded image.
        flip: bool [n].
        box: int64 [n, 4], the erased (top, left, height, width), of height and width 0 where nothing is erased.
            ``None`` if the policy never erases.
        noise: uint8 [n, C, H, W], what erased pixels become. ``None`` if the policy never erases.
        crop: int64 [n, 4], the (top, left, height, width) that is kept. ``None`` if the policy never crops.
        angle: float32 [n] in degrees. ``None`` if the policy never rotates.
    """

    top: Tensor
    left: Tensor
    flip: Tensor
    box: Tensor | None
    noise: Tensor | None
    crop: Tensor | None = None
    angle: Tensor | None = None


def draw_augmentation(policy: Augment, shape: tuple[int, int, int, int], generator: torch.Generator) -> Draws:
    """Draw independently for each image of a batch."""
    n, _, height, width = shape
    device = generator.device
    top, left = torch.randint(0, 2 * policy.shift + 1, (2, n), generator=generator, device=device)
    flip = torch.rand(n, generator=generator, device=device) < (0.5 if policy.flip else 0.0)
    box = noise = crop = angle = None
    if policy.erase:
        box = _draw_boxes(policy.erase, n, height, width, generator)
        noise = torch.randint(0, 256, shape, generator=generator, device=device, dtype=torch.uint8)
    if policy.crop < 1:
        crop = transforms.draw_crops(policy.crop, height, width, n, generator)
    if policy.rotation:
        angle = policy.rotation * (2 * torch.rand(n, generator=generator, device=device) - 1)
    return Draws(top, left, flip, box, noise, crop, angle)


def _draw_boxes(probability: float, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)

    area = uniform(*ERASE_AREA, n, ERASE_TRIES) * (height * width)
    aspect = uniform(*ERASE_ASPECT, n, ERASE_TRIES)
    heights, widths = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (heights < height) & (widths < width)
    first = fits.long().argmax(1, keepdim=True)
    erased = (uniform(0, 1, n) < probability) & fits.any(1)
    box_height, box_width = heights.gather(1, first).squeeze(1), widths.gather(1, first).squeeze(1)
    top = (uniform(0, 1, n) * (height - box_height + 1)).long()
    left = (uniform(0, 1, n) * (width - box_width + 1)).long()
    return torch.stack((top, left, box_height, box_width), 1) * erased[:, None]


def apply_draws(x: Tensor, policy: Augment, draws: Draws) -> Tensor:
    """Apply draws to a batch: crop, shift, flip, rotate, erase."""
    out = x if draws.crop is None else transforms.crop_and_enlarge(x, draws.crop)
    if policy.shift:
        out = transforms.window(out, draws.top - policy.shift, draws.left - policy.shift, policy.padding, draws.flip)
    elif policy.flip:
        out = transforms.flip(out, draws.flip)
    if draws.angle is not None:
        out = transforms.rotate(out, draws.angle)
    if draws.box is not None and draws.noise is not None:
        noise = draws.noise if x.dtype == torch.uint8 else draws.noise.to(x.dtype) / 255
        out = torch.where(transforms.rectangles(x, *draws.box.unbind(1)), noise, out)
    return out


def augment(x: Tensor, policy: Augment, generator: torch.Generator) -> Tensor:
    """Crop, shift, flip, rotate and erase each image of a batch by its own draw, on the device that the batch is on.

    Args:
        x: [n, C, H, W], uint8 or float in [0, 1].
        policy: What may be done.
        generator: Source of the draws, on the device of ``x``. torch's global generator is not touched.

    Returns:
        A tensor of the shape, dtype and device of ``x``; ``x`` itself if the policy does nothing.

    Raises:
        InputError: If ``padding`` is reflect and the shift is not below the image's height and width.

    Examples:
        >>> x = torch.arange(9, dtype=torch.uint8).view(1, 1, 3, 3)
        >>> augment(x, Augment(shift=1, padding="reflect", flip=True), torch.Generator().manual_seed(1)).shape
        torch.Size([1, 1, 3, 3])
    """
    if policy == Augment():
        return x
    n, channels, height, width = x.shape
    if policy.padding == "reflect" and policy.shift >= min(height, width):
        raise InputError(
            f"a shift of {policy.shift} with reflection needs images larger than that, and these are {height}x{width}: "
            "take a smaller shift, or padding='zeros'"
        )
    return apply_draws(x, policy, draw_augmentation(policy, (n, channels, height, width), generator))
