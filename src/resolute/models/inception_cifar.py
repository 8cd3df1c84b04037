"""Inception V3 (Szegedy et al. 2015, arXiv:1512.00567) for 32x32 images, as in weiaicunzai/pytorch-cifar100.

The stem keeps the resolution (stride 1, no pools), and the pool branch of the first modules ends in a 3x3 convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resolute.errors import InputError

_Size = int | tuple[int, int]


class InceptionCifar(nn.Module):
    """Stem of five convolutions, modules A A A, B, C C C C, D, E E, mean, dropout, fc: 48 layers."""

    # With 100 classes 22,318,148 parameters. BN and ReLU after each convolution, no auxiliary classifier; weights start
    # as PyTorch's defaults, as in the source.

    def __init__(self, classes: int, shape: tuple[int, int, int] = (3, 32, 32), dropout: float = 0.5) -> None:
        channels, height, width = shape
        if min(height, width) < 17:
            raise InputError(f"inception-v3-cifar got images of {height}x{width} pixels; it needs at least 17 a side.")
        super().__init__()
        self.stem = nn.Sequential(
            ConvNorm(channels, 32, 3, padding=1),
            ConvNorm(32, 32, 3, padding=1),
            ConvNorm(32, 64, 3, padding=1),
            ConvNorm(64, 80, 1),
            ConvNorm(80, 192, 3),
        )
        self.mixed = nn.Sequential(
            *(_module_a(before, pooled) for before, pooled in ((192, 32), (256, 64), (288, 64))),
            _module_b(288),
            *(_module_c(768, inner) for inner in (128, 160, 160, 192)),
            _module_d(768),
            *(_module_e(before) for before in (1280, 2048)),
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        logits: Tensor = self.fc(self.dropout(self.mixed(self.stem(x)).mean((2, 3))))
        return logits


class ConvNorm(nn.Sequential):
    """Convolution without bias, BN, ReLU."""

    def __init__(self, before: int, after: int, kernel: _Size, stride: int = 1, padding: _Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)


class Branches(nn.ModuleList):
    """Modules that all see the same input; their channels are concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        """Run every branch."""
        return torch.cat([branch(x) for branch in self], 1)


def _tall(before: int, after: int, size: int) -> ConvNorm:
    return ConvNorm(before, after, (size, 1), padding=(size // 2, 0))


def _wide(before: int, after: int, size: int) -> ConvNorm:
    return ConvNorm(before, after, (1, size), padding=(0, size // 2))


def _pooled(*after: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), *after)


def _module_a(before: int, pooled: int) -> Branches:
    return Branches(
        [
            ConvNorm(before, 64, 1),
            nn.Sequential(ConvNorm(before, 48, 1), ConvNorm(48, 64, 5, padding=2)),
            nn.Sequential(ConvNorm(before, 64, 1), ConvNorm(64, 96, 3, padding=1), ConvNorm(96, 96, 3, padding=1)),
            _pooled(ConvNorm(before, pooled, 3, padding=1)),
        ]
    )


def _module_b(before: int) -> Branches:
    """Halve the resolution."""
    return Branches(
        [
            ConvNorm(before, 384, 3, stride=2),
            nn.Sequential(ConvNorm(before, 64, 1), ConvNorm(64, 96, 3, padding=1), ConvNorm(96, 96, 3, stride=2)),
            nn.MaxPool2d(3, stride=2),
        ]
    )


def _module_c(before: int, inner: int) -> Branches:
    return Branches(
        [
            ConvNorm(before, 192, 1),
            nn.Sequential(ConvNorm(before, inner, 1), _tall(inner, inner, 7), _wide(inner, 192, 7)),
            nn.Sequential(
                ConvNorm(before, inner, 1),
                _tall(inner, inner, 7),
                _wide(inner, inner, 7),
                _tall(inner, inner, 7),
                _wide(inner, 192, 7),
            ),
            _pooled(ConvNorm(before, 192, 1)),
        ]
    )


def _module_d(before: int) -> Branches:
    """Halve the resolution."""
    return Branches(
        [
            nn.Sequential(ConvNorm(before, 192, 1), ConvNorm(192, 320, 3, stride=2)),
            nn.Sequential(
                ConvNorm(before, 192, 1), _wide(192, 192, 7), _tall(192, 192, 7), ConvNorm(192, 192, 3, stride=2)
            ),
            nn.AvgPool2d(3, stride=2),
        ]
    )


def _module_e(before: int) -> Branches:
    def forked() -> Branches:
        return Branches([_wide(384, 384, 3), _tall(384, 384, 3)])

    return Branches(
        [
            ConvNorm(before, 320, 1),
            nn.Sequential(ConvNorm(before, 384, 1), forked()),
            nn.Sequential(ConvNorm(before, 448, 1), ConvNorm(448, 384, 3, padding=1), forked()),
            _pooled(ConvNorm(before, 192, 1)),
        ]
    )
