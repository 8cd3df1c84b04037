"""Networks by name: images as float NCHW in [0, 1] in, logits out, `Normalize` as layer 0."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from resolute.errors import InputError, unknown
from resolute.models import external
from resolute.models.layers import Normalize
from resolute.models.lenet import LeNet
from resolute.models.wrn import WideResNet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Shape = tuple[int, int, int]

_GREY_28: Shape = (1, 28, 28)
_COLOUR_32: Shape = (3, 32, 32)
_COLOUR_224: Shape = (3, 224, 224)


def _lenet(classes: int, shape: Shape, pretrained: bool) -> nn.Module:
    _no_weights("lenet", pretrained)
    return LeNet(classes, shape)


def _wrn(depth: str, width: str, classes: int, shape: Shape, pretrained: bool) -> nn.Module:
    _no_weights(f"wrn-{depth}-{width}", pretrained)
    return WideResNet(int(depth), int(width), classes, shape)


class Entry(NamedTuple):
    """How to build a family of networks, the image shape that is customary for it, and what it is."""

    make: Callable[..., nn.Module | tuple[nn.Module, Normalize]]
    shape: Shape
    about: str


MODELS: dict[str, Entry] = {
    "lenet": Entry(_lenet, _GREY_28, "LeNet 20-50-500 with dropout, for small grey images"),
    "wrn-D-K": Entry(_wrn, _COLOUR_32, "wide residual network of depth D and width K: wrn-16-2, wrn-28-10"),
    "timm/NAME": Entry(external.from_timm, _COLOUR_224, "any network of timm: timm/convnext_atto"),
    "torchvision/NAME": Entry(external.from_torchvision, _COLOUR_224, "any classifier of torchvision"),
}
"""Networks by name; D and K stand for numbers, NAME for a name in that library."""


def build(
    name: str,
    *,
    classes: int,
    pretrained: bool = False,
    shape: Shape | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Build a network with its normalisation as layer 0.

    Args:
        name: A name in `MODELS`, such as ``"lenet"``, ``"wrn-16-8"``, ``"timm/convnext_atto"``.
        classes: Number of classes, at least 2.
        pretrained: Load published weights, where the library has them; then its own mean and std are kept.
        shape: Channels, height and width of an image; by default the customary shape of the network.
        mean: Channel means of the data in pixel units of [0, 1]; by default the network's own, else 0.5.
        std: Channel standard deviations; by default the network's own, else 0.5.

    Returns:
        ``Sequential(normalize, network)``: float [n, C, H, W] in [0, 1] in, logits [n, classes] out.

    Raises:
        InputError: If the name is unknown (the nearest are named), there are no weights, or classes is below 2.

    Example:
        >>> sum(p.numel() for p in build("lenet", classes=10).parameters())
        431080
    """
    if classes < 2:
        raise InputError(f"a classifier needs at least 2 classes; got {classes}.")
    entry, parts = _look_up(name)
    shape = shape or entry.shape
    built = entry.make(*parts, classes=classes, shape=shape, pretrained=pretrained)
    network, own = built if isinstance(built, tuple) else (built, Normalize([0.5] * shape[0], [0.5] * shape[0]))
    normalize = own if mean is None or std is None or pretrained else Normalize(mean, std)
    model = nn.Sequential()
    model.add_module("normalize", normalize)
    model.add_module("network", network)
    return model


def _look_up(name: str) -> tuple[Entry, tuple[str, ...]]:
    for key, entry in MODELS.items():
        pattern = re.sub(r"\b[DK]\b", r"(\\d+)", key).replace("NAME", "(.+)")
        if match := re.fullmatch(pattern, name):
            return entry, match.groups()
    raise InputError(unknown("model", name, [*MODELS, "wrn-16-2", "wrn-28-10"]))


def _no_weights(name: str, pretrained: bool) -> None:
    if pretrained:
        raise InputError(
            f"{name} has no published weights. Leave pretrained off, or use timm/NAME or torchvision/NAME."
        )
