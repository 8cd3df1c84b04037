"""Networks by name: images as float NCHW in [0, 1] in, logits out, `Normalize` as layer 0."""

from __future__ import annotations

import difflib
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from resolute.errors import InputError, located, shown, unknown
from resolute.models import zoo
from resolute.models.capsnet import CapsNet
from resolute.models.condensenet import CondenseNet, condense
from resolute.models.fast_cifar import FastCifar
from resolute.models.inception_cifar import InceptionCifar
from resolute.models.layers import Normalize
from resolute.models.lenet import LeNet
from resolute.models.resnet_sd import ResNetSD
from resolute.models.shufflenet_v1 import ShuffleNetV1
from resolute.models.weights import Weights, read_weights, start_from
from resolute.models.wrn import WideResNet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from resolute.config import Interpolation
    from resolute.models.zoo import Library

__all__ = ["ABSENT", "MODELS", "Family", "build", "condense"]

Shape = tuple[int, int, int]

_GREY_28: Shape = (1, 28, 28)
_COLOUR_32: Shape = (3, 32, 32)
_COLOUR_224: Shape = (3, 224, 224)


class Family(NamedTuple):
    """A family of networks.

    Attributes:
        make: Builds one: ``(*numbers, classes=, shape=) -> network``; of a library ``(name, classes=, shape=,
            pretrained=)``, which gives the network's own `Normalize` too, with pretrained as published weights want it.
        shape: Customary channels, height and width of an image.
        about: What it is, in a line.
        library: Where its published weights come from, if there are any.
        own: Its name there, where it is not in the name here.
    """

    make: Callable[..., nn.Module | tuple[nn.Module, Normalize]]
    shape: Shape
    about: str
    library: Library | None = None
    own: str = ""


def _wrn(depth: str, width: str, percent: str = "0", *, classes: int, shape: Shape) -> nn.Module:
    return WideResNet(int(depth), int(width), classes, shape, dropout=int(percent) / 100)


def _fast_cifar(width: str, *, classes: int, shape: Shape) -> nn.Module:
    return FastCifar(int(width), classes, shape)


def _timm(name: str, shape: Shape, about: str) -> Family:
    return Family(zoo.from_timm, shape, f"{about} (timm/{name})", zoo.TIMM, name)


_CONDENSED = "what models.condense makes of it, for inference"

MODELS: dict[str, Family] = {
    "lenet": Family(LeNet, _GREY_28, "LeNet 20-50-500 with dropout, for small grey images"),
    "lenet-caffe": Family(partial(LeNet, caffe=True), _GREY_28, "the same without ReLU after its convolutions"),
    "capsnet": Family(CapsNet, _GREY_28, "capsules with 3 iterations of routing and margin loss"),
    "capsnet-decoder": Family(partial(CapsNet, decoder=True), _GREY_28, "the same, which also reconstructs the image"),
    "resnet110-sd": Family(partial(ResNetSD, 110), _COLOUR_32, "ResNet-110 with stochastic depth, for CIFAR and SVHN"),
    "resnet152-sd": Family(partial(ResNetSD, 152), _COLOUR_32, "ResNet-152 of the same kind, the source's for SVHN"),
    "wrn-D-K": Family(_wrn, _COLOUR_32, "wide residual network of depth D and width K: wrn-16-2, wrn-28-10"),
    "wrn-D-K-dropP": Family(_wrn, _COLOUR_32, "the same with P % dropout: wrn-16-8-drop40, wrn-28-10-drop30"),
    "fast-cifar-K": Family(_fast_cifar, _COLOUR_32, "six convolutions of width K to 4 K, for CIFAR within minutes"),
    "inception-v3-cifar": Family(InceptionCifar, _COLOUR_32, "Inception V3 with a stem for 32x32 images"),
    "condensenet-g8": Family(partial(CondenseNet, 8), _COLOUR_224, "CondenseNet-74, G=C=8, condensing as it trains"),
    "condensenet-g4": Family(partial(CondenseNet, 4), _COLOUR_224, "CondenseNet-74, G=C=4, condensing as it trains"),
    "condensenet-g8-condensed": Family(partial(CondenseNet, 8, condensed=True), _COLOUR_224, _CONDENSED),
    "condensenet-g4-condensed": Family(partial(CondenseNet, 4, condensed=True), _COLOUR_224, _CONDENSED),
    "shufflenet-v1-2x": Family(ShuffleNetV1, _COLOUR_224, "ShuffleNet V1 of double width with 3 groups"),
    "mobilenet-v1": _timm("mobilenetv1_100", _COLOUR_224, "MobileNet V1"),
    "inception-v1": Family(
        zoo.from_torchvision, _COLOUR_224, "Inception V1 with BN (torchvision/googlenet)", zoo.TORCHVISION, "googlenet"
    ),
    "inception-v3": _timm("inception_v3", (3, 299, 299), "Inception V3"),
    "nasnet-a-large": _timm("nasnetalarge", (3, 331, 331), "NASNet-A 6@4032"),
    "senet-154": _timm("legacy_senet154", _COLOUR_224, "SENet-154"),
    "timm/NAME": Family(zoo.from_timm, _COLOUR_224, "any network of timm: timm/convnext_atto", zoo.TIMM),
    "torchvision/NAME": Family(zoo.from_torchvision, _COLOUR_224, "any classifier of torchvision", zoo.TORCHVISION),
    "hf-hub:NAME": Family(zoo.from_hub, _COLOUR_224, "timm's networks on the hub: hf-hub:USER/NAME", zoo.HUB),
}
"""Networks by name; D, K and P stand for numbers, NAME for a name in that library."""


ABSENT: dict[str, str] = {
    "nasnet-b": "the operations of its cell are in Figure 8 of arXiv:1707.07012 and in no text or code that was found",
    "nasnet-c": "the operations of its cell are in Figure 9 of arXiv:1707.07012 and in no text or code that was found",
}
"""Networks of the paper's tables that are not built, and why; their rows are quoted."""


def build(
    name: str,
    *,
    classes: int,
    pretrained: bool = False,
    weights: Weights | str | Path | None = None,
    shape: Shape | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Build a network with its normalisation as layer 0.

    Args:
        name: A name in `MODELS`, such as ``"lenet"``, ``"wrn-16-8"``, ``"timm/convnext_atto"``.
        classes: Number of classes, at least 2.
        pretrained: Load published weights, where the library has them. They are fetched once.
        weights: Load these in their place: a file of the same network's weights, or what `read_weights` read.
        shape: Channels, height and width of an image; by default the customary shape of the network.
        mean: Channel means of the data in pixel units of [0, 1]; by default the network's own, else 0.5. With weights
            the network's own are kept, where it has any.
        std: Channel standard deviations, in the same way.

    Returns:
        ``Sequential(normalize, network)``: float [n, C, H, W] in [0, 1] in, logits [n, classes] out. Weights of another
        number of classes leave its last layer new, as torch's generator draws it.

    Raises:
        InputError: If the name is unknown (the nearest are named), there are no weights, they cannot be had or are not
            the network's, or classes is below 2.

    Example:
        >>> sum(p.numel() for p in build("lenet", classes=10).parameters())
        431080
    """
    if classes < 2:
        raise InputError(f"a classifier needs at least 2 classes; got {classes}.")
    entry, parts = _look_up(name)
    shape = shape or entry.shape
    if weights is not None or pretrained:
        weights = weights if isinstance(weights, Weights) else find_weights(name, weights)
    published = {"pretrained": weights is not None} if entry.library else {}
    built = entry.make(*parts, classes=classes, shape=shape, **published)
    network, own = built if isinstance(built, tuple) else (built, Normalize([0.5] * shape[0], [0.5] * shape[0]))
    model = nn.Sequential()
    if mean is not None and std is not None and not published.get("pretrained"):
        own = Normalize(mean, std)
    model.add_module("normalize", own)
    model.add_module("network", network)
    if weights is not None:
        convert = partial(entry.library.convert, *parts, shape=shape) if entry.library else None
        start_from(model, weights, name, classes, convert)
    return model


def find_weights(name: str, file: str | Path | None = None) -> Weights:
    """Read the weights to start a network from.

    Args:
        name: A name in `MODELS`.
        file: Where they are; None is the published ones, which are fetched if they are not on this machine yet.

    Returns:
        What the file holds, and its SHA-256.

    Raises:
        InputError: If there are none, or they cannot be fetched or read; it says which file to put where.
    """
    entry, parts = _look_up(name)
    if file is not None:
        return read_weights(located(file))
    if entry.library is None:
        raise InputError(
            f"{name} has no published weights. Leave pretrained off, give a file of its weights (--weights FILE), or "
            "use timm/NAME or torchvision/NAME."
        )
    path, begins = entry.library.fetch(*parts)
    found = read_weights(path)
    if not found.sha256.startswith(begins):
        raise InputError(f"{path} is damaged: its SHA-256 does not begin with {begins}. Delete it, or fetch it again.")
    return found


def own_images(name: str) -> tuple[int | None, Interpolation]:
    """Tell for images of which side a network's published weights are, and how those were resized."""
    entry, parts = _look_up(name)
    return entry.library.images(*parts) if entry.library else (None, "bilinear")


def stored_name(name: str) -> str:
    """Give the name that a network can be built by again without the hub that it came from."""
    entry, parts = _look_up(name)
    return f"timm/{zoo.hub_architecture(*parts)}" if entry.make is zoo.from_hub else name


def _look_up(name: str) -> tuple[Family, tuple[str, ...]]:
    for key, entry in MODELS.items():
        pattern = re.sub("[DKP]", r"(\\d+)", key).replace("NAME", "(.+)")
        if match := re.fullmatch(pattern, name):
            return entry, (entry.own,) if entry.own else match.groups()
    if name in ABSENT:
        raise InputError(f"{name} is not built: {ABSENT[name]}")
    own = [*MODELS, "wrn-16-2", "wrn-28-10"]
    near = [] if difflib.get_close_matches(name.lower(), own, cutoff=0.8) else zoo.suggestions(name)
    if near:
        raise InputError(f"unknown model {shown(name)}: did you mean {' or '.join(map(repr, near))}?")
    raise InputError(unknown("model", name, own))
