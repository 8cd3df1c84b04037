"""The kernels of PyTorch's and NumPy's own operations against the equation in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from noise.kernels.checks import GROUPS, PS, SEED, SHAPES, SLOPES, check_groups, check_kernel
from noise.samples import LAYOUTS
from resolute.noise import signs
from resolute.noise.kernels import reference

if TYPE_CHECKING:
    from resolute.noise.signs import Groups


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "channels last 3d", "transposed", "permuted"])
def test_the_reference_keeps_the_layout(layout: str, slope: float) -> None:
    """Else a compiler copies each perturbed activation for the convolution after it."""
    x = LAYOUTS[layout]()
    assert reference.product(x, x, SEED, 0.3, signs.level(0.5), slope).stride() == x.stride()


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("p", PS)
def test_plain_kernel_is_the_truth_bit_for_bit(p: float, slope: float) -> None:
    for n in (1, 1025, reference.PIECE + 1025):
        check_kernel(reference.NUMPY, n, torch.float32, p, slope, start=1024)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("slope", SLOPES)
def test_pieces_are_the_truth_bit_for_bit(dtype: torch.dtype, slope: float) -> None:
    check_kernel(reference.PYTORCH, reference.PIECE + 1025, dtype, 0.3, slope, start=1024)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_groups_in_pieces_are_the_truth(shape: str, groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PIECE", 1024)
    for kernel, dtype in ((reference.NUMPY, torch.float32), (reference.PYTORCH, torch.float16)):
        for p, start in ((0.5, 0), (0.3, 7)):
            check_groups(kernel, shape, dtype, groups, p, start)
