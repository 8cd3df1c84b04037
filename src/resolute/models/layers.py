"""Layers that several networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


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
