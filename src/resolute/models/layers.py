"""Layers that several networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def start_as_he(network: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Draw the weights of every convolution as He et al. (2015) do, and start its bias at 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal channels out so that each group of the next convolution gets some of each group of the last."""
    dealt: Tensor = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return dealt


class Normalize(nn.Module):
    """Subtract the channel means and divide by the standard deviations: layer 0 of every network."""

    # Inside the network, so that images stay in [0, 1] for every disturbance and attack outside it. The two buffers
    # travel with the weights.

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show both vectors in the printed module."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"
