"""The one protocol of every shift of the test images."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from resolute.attacks import check_images
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from resolute.data.dataset import Images
    from resolute.run_folder import Key

PART = {"cpu": 2**20}
"""Numbers that are worked on at once on a device: what lies between takes several times the memory of a part."""


@dataclass(frozen=True, slots=True)
class Shift:
    """One change of the test images at one strength.

    Attributes:
        suite: Name of its suite.
        name: What is done: ``"gaussian-noise"``.
        severity: How strongly, in its own unit; 0 for clean.
        apply: ``(model, x, y, seeds) -> x'``. x is float [n, C, H, W] in [0, 1], y int64 [n]; ``seeds`` is int64 [n],
            one for each image, derived from (seed, shift, severity, index of the image in its data set), so that an
            image meets the same disturbance whatever the batch, the order or the network. x' is like x, in [0, 1].
        stored: For released files: the images on disk that take the place of the test images, in their order;
            ``apply`` then leaves them as they are. None where images are made by ``apply`` alone.
        block: Where ``apply`` draws for a whole batch, how many consecutive images of those shown, from the first on,
            are always given to it together, whatever the batch size: their results depend on each other. None where
            each image stands for itself.
        top: An answer is right if the image's class is among so many of the highest logits.
        cost: About how many forward passes an image takes, its evaluation included; tells the time left, nothing else.
    """

    suite: str
    name: str
    severity: float
    apply: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    stored: Callable[[Images], Images] | None = None
    block: int | None = None
    top: int = 1
    cost: float = 1.0

    @property
    def key(self) -> Key:
        """The column of the evaluation that this shift fills."""
        return (self.suite, self.name, self.severity)


def drawn(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]:
    """Make what a `Shift` applies from a change that looks at neither network nor labels."""
    return functools.partial(_apply, change=change)


def _apply(
    model: nn.Module,  # noqa: ARG001
    x: Tensor,
    y: Tensor,  # noqa: ARG001
    seeds: Tensor,
    *,
    change: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    check_batch(x, seeds)
    size = max(1, PART.get(x.device.type, 2**26) // x[0].numel())
    with torch.no_grad():
        out = torch.empty_like(x)
        for part, own, to in zip(x.split(size), seeds.split(size), out.split(size), strict=True):
            changed = change(part.to(torch.float32), own)
            if to.dtype == changed.dtype:
                torch.clamp(changed, 0, 1, out=to)
            else:
                to.copy_(changed.clamp(0, 1))
        return out


def check_batch(x: Tensor, seeds: Tensor) -> None:
    """Refuse what is no batch of images."""
    check_images(x)
    if x.shape[1] not in {1, 3}:
        raise InputError(f"the images have {x.shape[1]} channels; wanted is [n, 1 or 3, height, width].")
    if seeds.dtype != torch.int64 or seeds.shape != x.shape[:1]:
        raise InputError(f"the seeds are {seeds.dtype} {tuple(seeds.shape)}; wanted is torch.int64 of ({len(x)},).")
