"""The layers of CondenseNet: pointwise convolutions that learn their groups, and what they become."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LearnedGroupConv(nn.Module):
    """BN-ReLU-conv 1x1 with a mask. Group i owns the outputs i, i + G, i + 2G, ..., which shuffles the channels.

    Args:
        before: Channels in, a multiple of ``groups``.
        after: Channels out, a multiple of ``groups``.
        groups: Number of groups G, and of stages of condensation plus 1.
    """

    mask: Tensor

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(before, after, 1, bias=False)
        self.register_buffer("mask", torch.ones(groups, before))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the masked weights.

        Args:
            x: Float [n, before, H, W].

        Returns:
            Float [n, after, H, W].
        """
        weight, after = self.conv.weight, self.conv.out_channels
        mask = self.mask.repeat(after // self.groups, 1)[:, :, None, None]
        return F.conv2d(self.relu(self.norm(x)), weight * mask)

    @torch.no_grad()
    def condense_to(self, stage: int) -> None:
        """Drop the inputs with the smallest sum of absolute weights, group by group.

        Args:
            stage: How many of the G parts of the inputs shall be dropped in all; those that are dropped stay so.
        """
        part = self.mask.shape[1] // self.groups
        dropped = round(float((self.mask[0] < 0.5).sum()) / part)
        for _ in range(dropped, stage):
            use = self.conv.weight.abs().view(-1, self.groups, self.mask.shape[1]).sum(0)
            least = use.masked_fill(self.mask < 0.5, torch.inf).topk(part, largest=False).indices
            self.mask.scatter_(1, least, 0.0)


class CondensedConv(nn.Module):
    """What `condense` makes of a learned group convolution: index, BN-ReLU, group conv 1x1, shuffle.

    Args:
        before: Channels in, a multiple of ``groups``.
        after: Channels out, a multiple of ``groups``.
        groups: Number of groups; each sees its own ``before / groups`` of the channels, some of them shared.
    """

    index: Tensor

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.register_buffer("index", torch.arange(before))
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(before, after, 1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Select, convolve and shuffle.

        Args:
            x: Float [n, before, H, W].

        Returns:
            Float [n, after, H, W].
        """
        x = self.conv(self.relu(self.norm(x.index_select(1, self.index))))
        shuffled: Tensor = x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        return shuffled


class IndexedLinear(nn.Module):
    """A linear layer that sees some of its inputs.

    Args:
        before: Features in.
        kept: How many of them are used, evenly spaced to begin with.
        after: Features out.
    """

    index: Tensor

    def __init__(self, before: int, kept: int, after: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.arange(kept) * before // kept)
        self.whole = kept == before
        self.linear = nn.Linear(kept, after)

    def forward(self, x: Tensor) -> Tensor:
        """Select and map.

        Args:
            x: Float [n, before].

        Returns:
            Float [n, after].
        """
        out: Tensor = self.linear(x if self.whole else x.index_select(1, self.index))
        return out
