"""ShuffleNet, the first (Zhang, Zhou, Lin and Sun 2017, arXiv:1707.01083), with 3 groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resolute.errors import InputError
from resolute.models.layers import shuffle, start_as_he

_GROUPS = 3
_STAGES = ((240, 4), (480, 8), (960, 4))
_STEM = 24


class ShuffleNetV1(nn.Module):
    """conv 3x3 stride 2, max-pool, stages of 4, 8 and 4 units, mean, fc."""

    # At width 2 and 1,000 classes 5,450,776 parameters and 524 million multiply-adds at 224x224, as published: the stem
    # is widened too, and the very first pointwise convolution has one group. Weights start as He et al.'s.

    def __init__(self, classes: int, shape: tuple[int, int, int] = (3, 224, 224), width: float = 2.0) -> None:
        if width <= 0 or (_STAGES[0][0] * width) % (4 * _GROUPS):
            raise InputError(f"shufflenet-v1 got width {width}; 240 * width must be a multiple of {4 * _GROUPS}.")
        super().__init__()
        before = round(_STEM * width)
        self.conv = nn.Conv2d(shape[0], before, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        units: list[nn.Module] = []
        for channels, repeats in _STAGES:
            after = round(channels * width)
            for index in range(repeats):
                units.append(Unit(before, after, 2 if index == 0 else 1, _GROUPS if units else 1))
                before = after
        self.units = nn.Sequential(*units)
        self.fc = nn.Linear(before, classes)
        start_as_he(self, "fan_out")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.units(self.pool(self.relu(self.norm(self.conv(x)))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Unit(nn.Module):
    """Pointwise group conv, shuffle, depthwise 3x3, pointwise group conv; added to x, or joined to its average pool."""

    def __init__(self, before: int, after: int, stride: int, first_groups: int) -> None:
        super().__init__()
        inner, own = after // 4, after - before if stride == 2 else after
        self.squeeze = nn.Conv2d(before, inner, 1, groups=first_groups, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU(inplace=True)
        self.depthwise = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, own, 1, groups=_GROUPS, bias=False)
        self.norm3 = nn.BatchNorm2d(own)
        self.shrink = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Transform and join."""
        residual = shuffle(self.relu1(self.norm1(self.squeeze(x))), _GROUPS)
        residual = self.norm3(self.expand(self.norm2(self.depthwise(residual))))
        joined = x + residual if self.shrink is None else torch.cat([self.shrink(x), residual], 1)
        out: Tensor = self.relu2(joined)
        return out
