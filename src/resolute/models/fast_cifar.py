"""A small convolutional network that learns CIFAR-10 in minutes, after Jordan's airbench94 (2024, arXiv:2404.00498)."""

from __future__ import annotations

from torch import Tensor, nn

from resolute.errors import InputError
from resolute.models.layers import start_as_he


class FastCifar(nn.Module):
    """conv 2x2, three groups of two 3x3 convolutions of width, 4 width and 4 width, each pooled once, max pool, fc."""

    # The source whitens the first layer with the training set's patches, has GELU and no scales in its norms, and
    # begins with convolutions that pass their input on. Here BatchNorm stands behind the first layer, with ReLU.

    def __init__(self, width: int, classes: int, shape: tuple[int, int, int] = (3, 32, 32)) -> None:
        if width < 1 or min(shape[1:]) < 9:
            raise InputError(f"fast-cifar-{width}: the width must be >= 1, and images at least 9 pixels a side.")
        super().__init__()
        widths = [24, width, 4 * width, 4 * width]
        self.stem = nn.Sequential(nn.Conv2d(shape[0], 24, 2, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        self.groups = nn.Sequential(*map(_group, widths[:-1], widths[1:]))
        self.fc = nn.Linear(widths[-1], classes)
        start_as_he(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        features = self.groups(self.stem(x)).amax((2, 3))
        logits: Tensor = self.fc(features)
        return logits


def _group(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.MaxPool2d(2),
        nn.BatchNorm2d(after), nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
    )  # fmt: skip
