"""Small networks, data and a recipe that tests share. A new entry in a table of the package needs a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from resolute.config import Augment, TrainConfig
from resolute.data.dataset import DataInfo, Images
from resolute.experiment.recipe import Recipe
from resolute.models.layers import Normalize

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BUILDS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "lenet": ("lenet", (1, 8, 8)),
    "lenet-caffe": ("lenet-caffe", (1, 8, 8)),
    "capsnet": ("capsnet", (1, 18, 18)),
    "capsnet-decoder": ("capsnet-decoder", (1, 18, 18)),
    "resnet110-sd": ("resnet110-sd", (3, 8, 8)),
    "resnet152-sd": ("resnet152-sd", (3, 8, 8)),
    "wrn-D-K": ("wrn-10-1", (3, 16, 16)),
    "wrn-D-K-dropP": ("wrn-10-1-drop30", (3, 16, 16)),
    "fast-cifar-K": ("fast-cifar-4", (3, 9, 9)),
    "inception-v3-cifar": ("inception-v3-cifar", (3, 17, 17)),
    "condensenet-g8": ("condensenet-g8", (3, 16, 16)),
    "condensenet-g4": ("condensenet-g4", (3, 16, 16)),
    "condensenet-g8-condensed": ("condensenet-g8-condensed", (3, 16, 16)),
    "condensenet-g4-condensed": ("condensenet-g4-condensed", (3, 16, 16)),
    "shufflenet-v1-2x": ("shufflenet-v1-2x", (3, 32, 32)),
    "mobilenet-v1": ("mobilenet-v1", (3, 32, 32)),
    "inception-v1": ("inception-v1", (3, 32, 32)),
    "inception-v3": ("inception-v3", (3, 75, 75)),
    "nasnet-a-large": ("nasnet-a-large", (3, 64, 64)),
    "senet-154": ("senet-154", (3, 64, 64)),
    "timm/NAME": ("timm/test_resnet", (3, 32, 32)),
    "torchvision/NAME": ("torchvision/resnet18", (3, 32, 32)),
}
"""For each key of ``models.MODELS`` the smallest network of its kind, and images for it."""

LARGE = (
    "resnet152-sd", "condensenet-g4", "condensenet-g4-condensed", "inception-v3-cifar", "inception-v3",
    "nasnet-a-large", "senet-154",
)  # fmt: skip
"""Those that take seconds to build, or that differ from another entry in a number alone."""

FIRST_LOSS_OFF = {"mobilenet-v1": 10.0, "resnet110-sd": 2.0}
"""How far from ln(classes) the first loss may be: timm starts MobileNet's classifier wide for few classes, and the
residuals of a deep network that normalises none of their sums add up."""

TINY = Recipe(
    name="tiny",
    data="digits",
    model="lenet",
    train=TrainConfig(epochs=1, batch_size=64, device="cpu"),
    methods=("base", "r"),
    seeds=(0, 1),
    suites=("clean",),
)
"""A comparison of seconds."""


def tiny_info(classes: int = 3, shape: tuple[int, int, int] = (1, 6, 6), policy: Augment | None = None) -> DataInfo:
    """Describe a data set that does not exist."""
    return DataInfo(
        name="tiny",
        classes=classes,
        shape=shape,
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
        class_names=tuple(map(str, range(classes))),
        augment=policy or Augment(),
        radius=0.05,
        radii=(0.02, 0.05),
    )


def tiny_images(n: int = 48, info: DataInfo | None = None, *, seed: int = 0, split: str = "train") -> Images:
    """Draw images of a pattern for each class, in noise, so that a network can learn them but not at once."""
    info = info or tiny_info()
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(info.classes, *info.shape, generator=torch.Generator().manual_seed(7))
    y = torch.randint(info.classes, (n,), generator=generator)
    x = 0.5 * patterns[y] + 0.5 * torch.rand(n, *info.shape, generator=generator)
    return Images(info, (255 * x).to(torch.uint8), y, split)


def tiny_network(
    *, classes: int = 3, shape: tuple[int, int, int] = (1, 6, 6), dropout: float = 0.0, seed: int = 3
) -> nn.Sequential:
    """Build Normalize, two linear layers with a ReLU between, and dropout; the same weights at every call."""
    pixels = shape[0] * shape[1] * shape[2]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            Normalize((0.5,) * shape[0], (0.25,) * shape[0]),
            nn.Flatten(),
            nn.Linear(pixels, 16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(16, classes),
        )


def tiny_convolution(*, classes: int = 3, channels: int = 1, dropout: float = 0.5, seed: int = 3) -> nn.Sequential:
    """Build a network with BatchNorm, which has buffers and differs between its modes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            Normalize((0.5,) * channels, (0.25,) * channels),
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, classes),
        )


def as_float(images: Images) -> tuple[Tensor, Tensor]:
    """Give all of a set as one batch."""
    return images.x.float() / 255, images.y


class Answers(nn.Module):
    """A small network whose forward is what a function makes of it and the images."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.network, self.change = tiny_network(), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.network, x)


class Output(NamedTuple):
    """What some libraries' networks return."""

    logits: Tensor


def _fails(network: nn.Module, x: Tensor) -> Tensor:
    raise ValueError("Input image size (6*6) doesn't match model (224*224).")


NO_LOGITS: dict[str, tuple[Callable[[nn.Module, Tensor], Any], str]] = {
    "one logit": (lambda net, x: net(x)[:, :1], r"returns one logit .* torch.cat\(\[torch.zeros_like\(z\), z\], 1\)"),
    "a flat logit": (lambda net, x: net(x)[:, 0], "returns one logit for each"),
    "classes": (lambda net, x: net(x).argmax(1), "returns int64 .* wanted are logits"),
    "integers": (lambda net, x: net(x).long(), "returns int64 .* wanted are logits"),
    "more rows": (lambda net, x: net(x).repeat(2, 1), r"returns float32 \(\d+, 3\) for \d+ images"),
    "a map": (lambda net, x: net(x)[:, :, None, None], r"returns float32 \(\d+, 3, 1, 1\)"),
    "NaN": (lambda net, x: net(x) * torch.nan, "NaN or infinity on clean images"),
    "a tuple": (lambda net, x: (net(x), x), "returns a tuple of 2; wanted is one tensor of logits"),
    "an output": (lambda net, x: Output(net(x)), "returns its .logits alone"),
    "a dict": (lambda net, x: {"logits": net(x)}, "returns a dict; wanted is one tensor of logits"),
    "nothing": (lambda net, x: None, "returns a NoneType"),
    "an error": (_fails, "cannot take images of 1x6x6 pixels .*: Input image size"),
}
"""Networks that cannot be evaluated, attacked or trained, and what is said of them."""
NO_GRADIENT: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "detached": lambda net, x: net(x.detach()),
    "no_grad": lambda net, x: torch.no_grad()(net)(x),
}
"""Networks that no attack by gradient can move."""
_X, _Y = as_float(tiny_images())
NO_BATCH: dict[str, tuple[Any, Any, str]] = {
    "bytes": ((_X * 255).to(torch.uint8), _Y, r"images are uint8 \(48, 1, 6, 6\); wanted are floats in"),
    "bool": (_X > 0.5, _Y, "images are bool"),
    "levels": (_X * 255, _Y, r"reach from .* wanted is \[0, 1\]: pixels divided by 255"),
    "negative": (_X - 1, _Y, "reach from -"),
    "NaN": (_X.where(_X < 0.9, torch.nan), _Y, r"images hold NaN; wanted is \[0, 1\]"),
    "channels last": (torch.rand(48, 6, 6, 3), _Y, r"wanted is \[n, 1 or 3, height, width\]: move the channels with"),
    "one image": (_X[0], _Y[:1], r"images are float32 \(1, 6, 6\)"),
    "float labels": (_X, _Y.float(), "labels of a batch are float32"),
    "bool labels": (_X, _Y > 0, "labels of a batch are bool"),
    "one-hot": (_X, nn.functional.one_hot(_Y), r"labels of a batch are int64 \(48, 3\)"),
    "few labels": (_X, _Y[:5], r"int64 \(5,\); wanted is one class number for each of its 48 images"),
    "label 3": (_X, _Y + 1, "labels reach from 1 to 3, and there are 3 classes: wanted is 0 to 2"),
    "label -1": (_X, _Y - 1, "labels reach from -1 to 1"),
    "label -100": (_X, _Y * 0 - 100, "labels reach from -100 to -100"),
}
"""Batches that are none, and what is said of them."""
