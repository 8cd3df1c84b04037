"""Residual networks with stochastic depth (Huang, Sun, Liu, Sedra and Weinberger 2016, arXiv:1603.09382)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from resolute.errors import InputError
from resolute.models.layers import start_as_he


class ResNetSD(nn.Module):
    """conv-BN-ReLU, three groups of (depth - 2) / 6 blocks of 16, 32, 64 channels, mean, fc, for small images."""

    # Block l of L is alive with probability 1 - l / L * (1 - survival) at each training step. Convolutions have biases,
    # as in the authors' code: 110 layers have 1,732,010 parameters. Weights start as He et al.'s.

    def __init__(
        self, depth: int, classes: int, shape: tuple[int, int, int] = (3, 32, 32), survival: float = 0.5
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise InputError(f"resnet{depth}-sd: the depth must be 6n + 2 (8, 14, 20, 110, 152).")
        if not 0 < survival <= 1:
            raise InputError(f"resnet{depth}-sd got survival={survival}; it must be above 0 and at most 1.")
        super().__init__()
        blocks = (depth - 2) // 2
        self.stem = nn.Conv2d(shape[0], 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        widths = [16 * 2 ** (index * 3 // blocks) for index in range(blocks)]
        self.blocks = nn.Sequential(
            *(
                DroppedBlock(before, after, 1 - (index + 1) / blocks * (1 - survival))
                for index, (before, after) in enumerate(zip([16, *widths], widths, strict=False))
            )
        )
        self.fc = nn.Linear(64, classes)
        start_as_he(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.blocks(self.relu(self.norm(self.stem(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class DroppedBlock(nn.Module):
    """ReLU(shortcut + gate * (conv-BN-ReLU-conv-BN)); one gate for the whole batch."""

    # Where channels double, the block has stride 2, and the shortcut is a 2x2 average pool with zeros for new channels.
    # The residual of a dead block is computed and masked: every parameter has a gradient at each step, which
    # DistributedDataParallel needs, momentum and weight decay continue as in the authors' code, and the graph is whole
    # for torch.compile. The time that skipping would save is not saved.

    def __init__(self, before: int, after: int, survival: float) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.survival, self.new_channels = survival, after - before
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1)
        self.norm1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU(inplace=True)
        self.shrink = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual if the block is alive."""
        residual = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        shortcut = nn.functional.pad(self.shrink(x), (0, 0, 0, 0, 0, self.new_channels))
        if self.training:
            alive = torch.rand((), device=x.device) < self.survival
            residual = torch.where(alive, residual, torch.zeros((), dtype=residual.dtype, device=x.device))
        else:
            residual = self.survival * residual
        out: Tensor = self.relu2(shortcut + residual)
        return out
