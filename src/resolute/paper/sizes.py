"""How large each network is: as the paper prints it, as its source publishes it, and as counted here.

Multiply-adds are those of convolutions and linear layers for one image, in evaluation mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from resolute.models import build

if TYPE_CHECKING:
    from torch import nn

M = 1_000_000


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """Parameters and multiply-adds of one network.

    Attributes:
        parameters: Trained parameters, counted.
        multiply_adds: Multiply-adds for an image, counted.
        classes: Number of classes that it was counted with.
        shape: Channels, height and width that it was counted with.
        source: Where the published figures are.
        note: Why the figures differ.
        published: Parameters and multiply-adds at the network's own source; None where none.
        printed: The same in the tables of the paper that this library implements.
    """

    parameters: int
    multiply_adds: float
    classes: int
    shape: tuple[int, int, int]
    source: str = ""
    note: str = ""
    published: tuple[float | None, float | None] = (None, None)
    printed: tuple[float | None, float | None] = (None, None)


def _size(
    parameters: int,
    millions: float,
    classes: int,
    shape: tuple[int, int, int],
    source: str = "",
    published: tuple[float | None, float | None] = (None, None),
    printed: tuple[float | None, float | None] = (None, None),
    note: str = "",
) -> NetworkSize:
    """Put a size together from millions."""
    theirs, papers = (tuple(value and value * M for value in pair) for pair in (published, printed))
    return NetworkSize(parameters, millions * M, classes, shape, source, note, theirs, papers)  # type: ignore[arg-type]


_GREY, _CIFAR, _IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
_SABOUR = "Sabour et al. (arXiv:1710.09829)"
_WRN = "arXiv:1605.07146"
_CONDENSENET = "README of ShichenLiu/CondenseNet@833a91d"
_NASNET_2, _NASNET_3 = (f"NASNet (arXiv:1707.07012), Table {number}" for number in (2, 3))
_SHUFFLENET = "arXiv:1707.01083; parameters from MobileNetV2's table (arXiv:1801.04381)"
_MASKED = "As it trains, dense and masked."
_DECODER = "The decoder works in training only."
_GOOGLENET = "With 3x3 in place of 5x5 kernels and BN, as in TF-slim and torchvision; 1,448M could not be reproduced."
_CONDENSED = "The source's counter also counts ReLUs and average pools; convolutions and classifier alone are less."
_MISPRINT = " The paper's base row repeats 2.9M and 274M, a misprint; its FGSM- and R- rows have these."
_NASNET = "The source counts the 196,668 running statistics of BatchNorm too: 88,949,818."
_SENET = "The released network has 115.1M (its weights file: 440 MB); 145.8M is another paper's count and 42.4B a slip."

SIZES: dict[str, NetworkSize] = {
    "lenet": _size(431_080, 2.293, 10, _GREY, "Caffe's lenet.prototxt, which has the last ReLU alone"),
    "lenet-caffe": _size(431_080, 2.293, 10, _GREY, "Caffe's lenet.prototxt"),
    "capsnet": _size(6_804_384, 202.3, 10, _GREY, _SABOUR, (6.8, None)),
    "capsnet-decoder": _size(8_215_728, 202.3, 10, _GREY, _SABOUR, (8.2, None), note=_DECODER),
    "resnet110-sd": _size(1_732_010, 252.9, 10, _CIFAR, "WRN (arXiv:1605.07146), Table 5", (1.7, None)),
    "resnet152-sd": _size(2_414_090, 352.0, 10, _CIFAR),
    "wrn-16-8": _size(10_961_370, 1548.1, 10, _CIFAR, _WRN, (11.0, None)),
    "wrn-28-10": _size(36_479_194, 5243.3, 10, _CIFAR, _WRN, (36.5, None)),
    "inception-v3-cifar": _size(22_318_148, 3390.7, 100, _CIFAR, "weiaicunzai/pytorch-cifar100@11d8418", (22.3, None)),
    "inception-v3": _size(23_834_568, 5713.2, 1000, (3, 299, 299), _NASNET_2, (23.8, 5720)),
    "inception-v1": _size(6_624_904, 1498.4, 1000, _IMAGENET, _NASNET_3, (6.6, 1448), (6.6, 1448), _GOOGLENET),
    "mobilenet-v1": _size(4_231_976, 568.74, 1000, _IMAGENET, _NASNET_3, (4.2, 569), (4.2, 569)),
    "shufflenet-v1-2x": _size(5_450_776, 524.05, 1000, _IMAGENET, _SHUFFLENET, (5.4, 524), (5.3, 524)),
    "condensenet-g8": _size(11_103_608, 1137.8, 1000, _IMAGENET, note=_MASKED),
    "condensenet-g8-condensed": _size(
        2_935_416, 261.5, 1000, _IMAGENET, _CONDENSENET, (2.9, 274), (2.9, 274), _CONDENSED
    ),
    "condensenet-g4": _size(11_922_680, 1267.9, 1000, _IMAGENET, note=_MASKED),
    "condensenet-g4-condensed": _size(
        4_773_944, 516.6, 1000, _IMAGENET, _CONDENSENET, (4.8, 529), (4.8, 529), _CONDENSED + _MISPRINT
    ),
    "nasnet-a-large": _size(
        88_753_150, 23783.4, 1000, (3, 331, 331), _NASNET_2, (88.9, 23_800), (88.9, 23_800), _NASNET
    ),
    "senet-154": _size(115_088_984, 42212.2, 1000, (3, 320, 320), _NASNET_2, (145.8, 42_300), (145.8, 42_400), _SENET),
}
"""Sizes by the name of the network."""


class Counts(NamedTuple):
    """Trained parameters, and multiply-adds of convolutions and matrix products for one image."""

    parameters: int
    multiply_adds: int


def count_network(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count a network by running it once in evaluation mode. BatchNorm, activations and pools are not counted."""
    from torch.utils.flop_counter import FlopCounterMode

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *shape, device=device))
    # A multiply-add is two of torch's floating-point operations.
    return Counts(sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2)


def count_named(name: str) -> Counts:
    """Count a network of `SIZES` with the classes and images that it is stated for."""
    size = SIZES[name]
    with torch.device("meta"):
        model = build(name, classes=size.classes, shape=size.shape)
    return count_network(model, size.shape)
