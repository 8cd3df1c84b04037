"""How large each network is: as this paper prints it, as its source publishes it, and as an independent count found.

Multiply-adds are those of convolutions and linear layers for one image, in evaluation mode.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from resolute.models import build

M = 1_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters and multiply-adds of one network.

    Attributes:
        parameters: Trained parameters, counted.
        multiply_adds: Multiply-adds for an image, counted.
        classes: Number of classes that it was counted with.
        shape: Channels, height and width that it was counted with.
        printed: (parameters, multiply-adds) in the tables of the paper that this library implements; None where none.
        published: The same at the network's own source.
        source: Where that is.
        note: Why the figures differ.
    """

    parameters: int
    multiply_adds: float
    classes: int
    shape: tuple[int, int, int]
    printed: tuple[float | None, float | None] = (None, None)
    published: tuple[float | None, float | None] = (None, None)
    source: str = ""
    note: str = ""


_GREY = (1, 28, 28)
_CIFAR = (3, 32, 32)
_IMAGENET = (3, 224, 224)
_CONDENSENET = "README of ShichenLiu/CondenseNet@833a91d"
_NASNET_2 = "NASNet (arXiv:1707.07012), Table 2"
_NASNET_3 = "NASNet (arXiv:1707.07012), Table 3"
_CONDENSE_NOTE = "The source's counter also counts ReLUs and average pools; convolutions and classifier alone are less."

SIZES: dict[str, Size] = {
    "lenet": Size(431_080, 2.293 * M, 10, _GREY, source="Caffe's lenet.prototxt"),
    "capsnet": Size(
        6_804_384, 202.3 * M, 10, _GREY, published=(6.8 * M, None), source="Sabour et al. (arXiv:1710.09829)"
    ),
    "capsnet-decoder": Size(
        8_215_728,
        202.3 * M,
        10,
        _GREY,
        published=(8.2 * M, None),
        source="Sabour et al. (arXiv:1710.09829)",
        note="The decoder works in training only.",
    ),
    "resnet110-sd": Size(
        1_732_010, 252.9 * M, 10, _CIFAR, published=(1.7 * M, None), source="WRN (arXiv:1605.07146), Table 5"
    ),
    "resnet152-sd": Size(2_414_090, 352.0 * M, 10, _CIFAR),
    "wrn-16-8": Size(10_961_370, 1548.1 * M, 10, _CIFAR, published=(11.0 * M, None), source="arXiv:1605.07146"),
    "wrn-28-10": Size(36_479_194, 5243.3 * M, 10, _CIFAR, published=(36.5 * M, None), source="arXiv:1605.07146"),
    "inception-v3-cifar": Size(
        22_318_148, 3390.7 * M, 100, _CIFAR, published=(22.3 * M, None), source="weiaicunzai/pytorch-cifar100@11d8418"
    ),
    "inception-v3": Size(23_834_568, 5713.2 * M, 1000, (3, 299, 299), published=(23.8 * M, 5720 * M), source=_NASNET_2),
    "inception-v1": Size(
        6_624_904,
        1498.4 * M,
        1000,
        _IMAGENET,
        (6.6 * M, 1448 * M),
        (6.6 * M, 1448 * M),
        _NASNET_3,
        "With 3x3 in place of 5x5 kernels and BN, as in TF-slim and torchvision; 1,448M could not be reproduced.",
    ),
    "mobilenet-v1": Size(4_231_976, 568.74 * M, 1000, _IMAGENET, (4.2 * M, 569 * M), (4.2 * M, 569 * M), _NASNET_3),
    "shufflenet-v1-2x": Size(
        5_450_776,
        524.05 * M,
        1000,
        _IMAGENET,
        (5.3 * M, 524 * M),
        (5.4 * M, 524 * M),
        "arXiv:1707.01083; parameters from MobileNetV2's table (arXiv:1801.04381)",
    ),
    "condensenet-g8": Size(11_103_608, 1137.8 * M, 1000, _IMAGENET, note="As it trains, dense and masked."),
    "condensenet-g8-condensed": Size(
        2_935_416,
        261.5 * M,
        1000,
        _IMAGENET,
        (2.9 * M, 274 * M),
        (2.9 * M, 274 * M),
        _CONDENSENET,
        _CONDENSE_NOTE,
    ),
    "condensenet-g4": Size(11_922_680, 1267.9 * M, 1000, _IMAGENET, note="As it trains, dense and masked."),
    "condensenet-g4-condensed": Size(
        4_773_944,
        516.6 * M,
        1000,
        _IMAGENET,
        (4.8 * M, 529 * M),
        (4.8 * M, 529 * M),
        _CONDENSENET,
        f"{_CONDENSE_NOTE} The paper's base row repeats 2.9M and 274M, a misprint; its FGSM- and R- rows have these.",
    ),
    "nasnet-a-large": Size(
        88_753_150,
        23783.4 * M,
        1000,
        (3, 331, 331),
        (88.9 * M, 23_800 * M),
        (88.9 * M, 23_800 * M),
        _NASNET_2,
        "The source counts the 196,668 running statistics of BatchNorm too: 88,949,818.",
    ),
    "senet-154": Size(
        115_088_984,
        42212.2 * M,
        1000,
        (3, 320, 320),
        (145.8 * M, 42_400 * M),
        (145.8 * M, 42_300 * M),
        _NASNET_2,
        "The released network has 115.1M (its weights file: 440 MB); 145.8M is another paper's count and 42.4B a slip.",
    ),
}
"""Sizes by the name of the network."""

_NORMS = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
)
_FILLS = (
    torch.ops.aten.normal_.default,
    torch.ops.aten.uniform_.default,
    torch.ops.aten.zero_.default,
    torch.ops.aten.fill_.Scalar,
)


class Counts(NamedTuple):
    """Trained parameters, and multiply-adds of convolutions and matrix products for one image."""

    parameters: int
    multiply_adds: int


def count(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count a network by running it once in evaluation mode. BatchNorm, activations and pools are not counted.

    Args:
        model: A network; on the meta device this takes no arithmetic. It is left in evaluation mode.
        shape: Channels, height and width of an image.

    Returns:
        The counts.

    Example:
        >>> count(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
        Counts(parameters=65, multiply_adds=60)
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), _MultiplyAdds() as counter:
        model.eval()(torch.zeros(1, *shape, device=device))
    return Counts(sum(parameter.numel() for parameter in model.parameters()), counter.total)


def count_named(name: str) -> Counts:
    """Count a network of `facts.SIZES` with the classes and images that it is stated for.

    Args:
        name: A key of ``SIZES``.

    Returns:
        The counts.
    """
    size = SIZES[name]
    with torch.device("meta"), _MultiplyAdds():
        model = build(name, classes=size.classes, shape=size.shape)
    return count(model, size.shape)


def _broadcast(args: Any) -> Tensor:
    """What an elementwise operation returns, with its shape alone."""
    sizes = itertools.zip_longest(*(reversed(x.shape) for x in args if isinstance(x, Tensor)), fillvalue=1)
    return torch.empty([max(own) for own in sizes][::-1], device="meta")


def _product(args: Any) -> Tensor:
    """What ``addmm`` returns, with its shape alone."""
    return torch.empty(args[1].shape[0], args[2].shape[1], device="meta")


class _MultiplyAdds(TorchDispatchMode):
    """Add up by torch's own formulas of floating-point operations, of which a multiply-add has two."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: else torch loads its compiler, which takes longer than the counting."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            # On meta these are hundreds of lines of Python, and torch's compiler is loaded for them.
            if func in _NORMS:
                return torch.empty_like(args[0]), *(torch.empty(0, device="meta") for _ in range(2))
            if func is torch.ops.aten.mean.dim:
                return torch.ops.aten.sum.dim_IntList(*args, **(kwargs or {}))
            if func in _FILLS:
                return args[0]
            if torch.Tag.pointwise in func.tags:
                return args[0] if func._schema.is_mutable else _broadcast(args)
        by_shape = func is torch.ops.aten.addmm.default and args[1].is_meta
        out = _product(args) if by_shape else func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out) // 2
        return out
