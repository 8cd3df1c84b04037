from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from cases import tiny_info
from resolute.noise import signs
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="session")
def seeds() -> torch.Tensor:
    return signs.fold(signs.key(0, "test"), torch.arange(2000))


STRIPS = ((7, 150), (65, 3), (2, 90), (1, 70), (70, 1), (2, 1), (1, 1), (3, 3))
"""Heights and widths that are smaller than what a filter or a swap reaches."""


@pytest.fixture(params=[(channels, *side) for side in STRIPS for channels in (1, 3)], ids=str)
def strip(request: pytest.FixtureRequest) -> torch.Tensor:
    """Three images of an odd shape: float32 [3, C, H, W], whole bytes over 255."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, *request.param), generator=draw).float() / 255


@pytest.fixture
def check_strip(strip: torch.Tensor, seeds: torch.Tensor) -> Callable[..., None]:
    """Applies every shift of suites at every severity: shape kept, finite, in [0, 1], and of the image alone."""

    def check(*suites: str) -> None:
        channels, height, width = strip.shape[1:]
        y = torch.zeros(3, dtype=torch.int64)
        for shift in find_shifts(suites, tiny_info(shape=(channels, height, width))):
            changed = shift.apply(nn.Identity(), strip, y, seeds[:3])
            assert changed.shape == strip.shape
            assert changed.isfinite().all(), shift
            assert 0 <= changed.min() <= changed.max() <= 1, shift
            alone = shift.apply(nn.Identity(), strip[1:2], y[:1], seeds[1:2])
            assert torch.allclose(alone, changed[1:2], rtol=0, atol=1e-6), shift

    return check
