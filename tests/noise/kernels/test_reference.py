"""The kernels of PyTorch's and NumPy's own operations against the equation in one piece."""

from __future__ import annotations

import pytest
import torch

from noise.kernels.checks import PS, SEED, SLOPES, check_kernel
from noise.samples import LAYOUTS
from resolute.noise import signs
from resolute.noise.kernels import reference


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
