"""Networks that call their activations as functions, and an example for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicConv(nn.Module):
    """Ends with its activation."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.conv, self.inplace = nn.Conv1d(2, 2, 1), inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x), inplace=self.inplace)


class Between(nn.Module):
    """Its activations enter modules, by way of functions that move or drop elements."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu())
        return self.third(F.dropout(F.gelu(x).flatten(1), 0.5, self.training))  # type: ignore[no-any-return]


class Spent(nn.Module):
    """No module takes its activations as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv1d(2, 2, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.silu(self.conv(x))
        y = F.relu(x)
        y += 1
        return self.linear(y)  # type: ignore[no-any-return]


class SquaredReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class Ends(nn.Module):
    """Ends with its activation only if asked to."""

    def __init__(self, ends: bool) -> None:
        super().__init__()
        self.linear, self.ends = nn.Linear(4, 4), ends

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return F.relu(x) if self.ends else x


class SharedDropout(nn.Module):
    """Its one dropout takes an activation, and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.dropout = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(F.relu(self.first(self.dropout(x)))))  # type: ignore[no-any-return]


class ByName(nn.Module):
    """Hands its activation on by a keyword, behind another argument."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(scale=2, x=F.relu(x), y=x)  # type: ignore[no-any-return]


class Inner(nn.Module):
    def forward(self, *, scale: int, x: Tensor, y: Tensor) -> Tensor:
        return x * scale + y


def layers(activation: str = "relu") -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 8, activation=activation, batch_first=True)
    return nn.TransformerEncoder(layer, 3)


X = torch.linspace(-1, 1, 16).view(2, 2, 4)
