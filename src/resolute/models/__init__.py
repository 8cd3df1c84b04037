"""Networks by name: images as float NCHW in [0, 1] in, logits out, `Normalize` as layer 0."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from resolute.errors import InputError, unknown
from resolute.models import external
from resolute.models.capsnet import CapsNet
from resolute.models.condensenet import CondenseNet, condense
from resolute.models.facts import ABSENT
from resolute.models.inception_cifar import InceptionCifar
from resolute.models.layers import Normalize
from resolute.models.lenet import LeNet
from resolute.models.resnet_sd import ResNetSD
from resolute.models.shufflenet_v1 import ShuffleNetV1
from resolute.models.wrn import WideResNet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ABSENT", "MODELS", "Entry", "build", "condense"]

Shape = tuple[int, int, int]

_GREY_28: Shape = (1, 28, 28)
_COLOUR_32: Shape = (3, 32, 32)
_COLOUR_224: Shape = (3, 224, 224)


class Entry(NamedTuple):
    """How to build a family of networks, the image shape that is customary for it, and what it is."""

    make: Callable[..., nn.Module | tuple[nn.Module, Normalize]]
    shape: Shape
    about: str


def _own(
    make: Callable[[int, Shape], nn.Module], about: str, shape: Shape = _COLOUR_32, **settings: float | bool
) -> Entry:
    return Entry(partial(_without_weights, partial(make, **settings)), shape, about)


def _without_weights(
    make: Callable[[int, Shape], nn.Module], *, classes: int, shape: Shape, pretrained: bool
) -> nn.Module:
    if pretrained:
        raise InputError("this network has no published weights. Leave pretrained off, or use timm/ or torchvision/.")
    return make(classes, shape)


def _wrn(depth: str, width: str, percent: str = "0", *, classes: int, shape: Shape, pretrained: bool) -> nn.Module:
    make = partial(WideResNet, int(depth), int(width), dropout=int(percent) / 100)
    return _without_weights(make, classes=classes, shape=shape, pretrained=pretrained)


MODELS: dict[str, Entry] = {
    "lenet": _own(LeNet, "LeNet 20-50-500 with dropout, for small grey images", _GREY_28),
    "capsnet": _own(CapsNet, "capsules with 3 iterations of routing and margin loss", _GREY_28),
    "capsnet-decoder": _own(CapsNet, "the same, regularised by reconstructing the image", _GREY_28, decoder=True),
    "resnet110-sd": _own(partial(ResNetSD, 110), "ResNet-110 with stochastic depth, for CIFAR and SVHN"),
    "resnet152-sd": _own(partial(ResNetSD, 152), "ResNet-152 of the same kind, the source's for SVHN"),
    "wrn-D-K": Entry(_wrn, _COLOUR_32, "wide residual network of depth D and width K: wrn-16-2, wrn-28-10"),
    "wrn-D-K-dropP": Entry(_wrn, _COLOUR_32, "the same with P % dropout: wrn-16-8-drop40, wrn-28-10-drop30"),
    "inception-v3-cifar": _own(InceptionCifar, "Inception V3 with a stem for 32x32 images"),
    "condensenet-g8": _own(partial(CondenseNet, 8), "CondenseNet-74, G=C=8, condensing as it trains", _COLOUR_224),
    "condensenet-g4": _own(partial(CondenseNet, 4), "CondenseNet-74, G=C=4, condensing as it trains", _COLOUR_224),
    "condensenet-g8-condensed": _own(
        partial(CondenseNet, 8), "what models.condense makes of it, for inference", _COLOUR_224, condensed=True
    ),
    "condensenet-g4-condensed": _own(
        partial(CondenseNet, 4), "what models.condense makes of it, for inference", _COLOUR_224, condensed=True
    ),
    "shufflenet-v1-2x": _own(ShuffleNetV1, "ShuffleNet V1 of double width with 3 groups", _COLOUR_224),
    "mobilenet-v1": Entry(
        partial(external.from_timm, "mobilenetv1_100"), _COLOUR_224, "MobileNet V1 (timm/mobilenetv1_100)"
    ),
    "inception-v1": Entry(
        partial(external.from_torchvision, "googlenet"), _COLOUR_224, "Inception V1 with BN (torchvision/googlenet)"
    ),
    "inception-v3": Entry(
        partial(external.from_timm, "inception_v3"), (3, 299, 299), "Inception V3 (timm/inception_v3)"
    ),
    "nasnet-a-large": Entry(
        partial(external.from_timm, "nasnetalarge"), (3, 331, 331), "NASNet-A 6@4032 (timm/nasnetalarge)"
    ),
    "senet-154": Entry(partial(external.from_timm, "legacy_senet154"), _COLOUR_224, "SENet-154 (timm/legacy_senet154)"),
    "timm/NAME": Entry(external.from_timm, _COLOUR_224, "any network of timm: timm/convnext_atto"),
    "torchvision/NAME": Entry(external.from_torchvision, _COLOUR_224, "any classifier of torchvision"),
}
"""Networks by name; D, K and P stand for numbers, NAME for a name in that library."""


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
        pattern = re.sub("[DKP]", r"(\\d+)", key).replace("NAME", "(.+)")
        if match := re.fullmatch(pattern, name):
            return entry, match.groups()
    if name in ABSENT:
        raise InputError(f"{name} is not built: {ABSENT[name]}")
    raise InputError(unknown("model", name, [*MODELS, "wrn-16-2", "wrn-28-10"]))
