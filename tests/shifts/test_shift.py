from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from resolute.errors import InputError
from resolute.shifts import shift

Y = torch.zeros(2, dtype=torch.long)
SEEDS = torch.arange(2)


def twice(x: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_it_clips_and_keeps_the_dtype() -> None:
    x = torch.full((2, 3, 4, 4), 0.75, dtype=torch.bfloat16)
    moved = shift.drawn(twice)(nn.Identity(), x, Y, SEEDS)
    assert moved.dtype == torch.bfloat16
    assert moved.unique().tolist() == [1]


def test_parts_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shift.PART, "cpu", 100)
    sizes = []

    def mark(x: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x * 0 + seeds[:, None, None, None] / 100

    moved = shift.drawn(mark)(nn.Identity(), torch.rand(13, 1, 5, 5), torch.zeros(13), torch.arange(13))
    assert sizes == [4, 4, 4, 1]
    assert (100 * moved[:, 0, 0, 0]).round().tolist() == list(range(13))


def test_no_gradient_is_kept() -> None:
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    assert not shift.drawn(twice)(nn.Identity(), x, Y, SEEDS).requires_grad


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(2, 8, 8, 3), "the images are float32 (2, 8, 8, 3); wanted is [n, 1 or 3, height, width]: move"),
        (torch.rand(3, 8, 8), "the images are float32 (3, 8, 8); wanted is [n, 1 or 3, height, width]."),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "wanted are floats in [0, 1]: x.float() / 255."),
        (torch.full((2, 3, 8, 8), 128.0), "the images reach from 128 to 128; wanted is [0, 1]"),
        (torch.full((2, 3, 8, 8), -0.1), "the images reach from -0.1 to -0.1; wanted is [0, 1]"),
        (torch.full((2, 3, 8, 8), torch.nan), "the images hold NaN; wanted is [0, 1]"),
    ],
)
def test_what_is_no_image_is_refused(x: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        shift.drawn(twice)(nn.Identity(), x, Y, SEEDS)


@pytest.mark.parametrize("seeds", [torch.arange(3), torch.arange(2).float()])
def test_seeds_that_do_not_fit_are_refused(seeds: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"wanted is torch.int64 of \(2,\)"):
        shift.drawn(twice)(nn.Identity(), torch.rand(2, 3, 4, 4), Y, seeds)
