"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""

from __future__ import annotations

from torch import Tensor, nn

from resolute.errors import InputError
from resolute.models.layers import start_as_he


class WideResNet(nn.Module):
    """conv 3x3, three groups of (depth - 4) / 6 pre-activation blocks of 16k, 32k, 64k channels, BN-ReLU, mean, fc."""

    # WRN-28-10 has 36,479,194 parameters with 10 classes. No convolution has a bias; weights start as He et al.'s.

    def __init__(
        self, depth: int, width: int, classes: int, shape: tuple[int, int, int] = (3, 32, 32), dropout: float = 0.0
    ) -> None:
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise InputError(f"wrn-{depth}-{width}: the depth must be 6n + 4 (10, 16, 22, 28, 40) and the width >= 1.")
        if not 0 <= dropout < 1:
            raise InputError(f"wrn-{depth}-{width}: the dropout is {dropout}; it must be at least 0 and below 1.")
        super().__init__()
        widths = [16, 16 * width, 32 * width, 64 * width]
        blocks = (depth - 4) // 6
        self.stem = nn.Conv2d(shape[0], 16, 3, padding=1, bias=False)
        self.groups = nn.Sequential(
            *(
                nn.Sequential(
                    WideBlock(before, after, stride, dropout),
                    *(WideBlock(after, after, 1, dropout) for _ in range(blocks - 1)),
                )
                for before, after, stride in zip(widths, widths[1:], (1, 2, 2), strict=False)
            )
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(widths[-1], classes)
        start_as_he(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.relu(self.norm(self.groups(self.stem(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class WideBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-[dropout]-conv plus a shortcut; where channels change, BN-ReLU is shared with it."""

    def __init__(self, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual."""
        active = self.relu1(self.norm1(x))
        residual: Tensor = self.conv2(self.dropout(self.relu2(self.norm2(self.conv1(active)))))
        return residual + (x if self.shortcut is None else self.shortcut(active))
