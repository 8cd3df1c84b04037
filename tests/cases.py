"""Small networks, data and a recipe that tests share. A new entry in a table of the package needs a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from resolute.config import Augment, TrainConfig
from resolute.data.dataset import DataInfo, Images
from resolute.experiment.recipe import Recipe
from resolute.models.layers import Normalize

if TYPE_CHECKING:
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
