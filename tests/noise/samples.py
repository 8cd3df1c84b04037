"""Tensors of every kind that `perturb` takes, and what is read from those that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

SIGMA = 4.0
"""How many standard deviations one statistic may be off."""

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: torch.randn(2, 3, 20, 21),
    "channels last": lambda: torch.randn(2, 3, 20, 21).to(memory_format=torch.channels_last),
    "channels last, one channel": lambda: torch.randn(2, 1, 9, 8).to(memory_format=torch.channels_last),
    "channels last 3d": lambda: torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
    "transposed": lambda: torch.randn(40, 30).t(),
    "permuted": lambda: torch.randn(4, 5, 6, 7).permute(2, 0, 3, 1),
    "sliced": lambda: torch.randn(10, 60)[::2, 5::3],
    "sliced channels last": lambda: torch.randn(2, 6, 8, 8).to(memory_format=torch.channels_last)[:, 1:4, ::2],
    "expanded": lambda: torch.randn(5, 1, 7).expand(5, 4, 7),
    "expanded from one": lambda: torch.randn(()).expand(3, 4),
    "vector": lambda: torch.randn(1025),
    "0-d": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0),
    "zero-size": lambda: torch.randn(2, 0, 3),
}

FORMS = [
    {"grain": grain, "spread": spread, "share": share}
    for grain in ("element", "channel", "sample")
    for spread, share in (("fixed", 1.0), ("random", 1.0), ("fixed", 0.6), ("random", 0.3))
][1:]
"""All but the paper's."""


def drawn(x: Tensor, g: Tensor) -> Tensor:
    """Read the signs s from g(x) - x = eps * s * |x|."""
    return (g.detach().double() - x.detach().double()).sign()


def correlation(a: Tensor, b: Tensor, p: float = 0.5) -> float:
    """Give the correlation of two rows of signs, in standard deviations of that of independent ones."""
    mean = 2 * p - 1
    return float(((a - mean) * (b - mean)).sum() / (1 - mean**2) / len(a) ** 0.5)
