"""Kernels compared with the reference, on numbers of many sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from resolute.noise import signs
from resolute.noise.kernels import cpu, reference

if TYPE_CHECKING:
    from torch import Tensor

    from resolute.noise.kernels.reference import Kernel

SEED = torch.tensor(-1234567890123456789)
SIZES = (1, 31, 32, 33, 1023, 1024, 1025, 3000)
PS = (0.5, 0.25, 0.3, 1 / 65536, 0.0, 1.0)
SLOPES = (1.0, 0.0, 0.01, 2.0)


def values(n: int, dtype: torch.dtype) -> Tensor:
    """Draw numbers of many sizes, among them every kind of edge."""
    x = torch.randn(n, dtype=torch.float64) * torch.exp2(torch.empty(n, dtype=torch.float64).uniform_(-9, 9))
    edges = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")], dtype=torch.float64)
    return torch.where(torch.rand(n) < 0.2, edges[torch.randint(5, (n,))], x).to(dtype)


def check_same(actual: Tensor, wanted: Tensor, rtol: float = 0) -> None:
    torch.testing.assert_close(actual, wanted, rtol=rtol, atol=0, equal_nan=True)


def check_kernel(
    kernel: Kernel, n: int, dtype: torch.dtype, p: float, slope: float, start: int = 0, rtol: float = 0
) -> None:
    src, ref = values(n, dtype), values(n, dtype)
    for y in (src, ref):
        out = torch.empty_like(ref)
        kernel.run(y, ref, out, SEED, 0.3, signs.level(p), slope, start)
        check_same(out, reference.product(y, ref, SEED, 0.3, signs.level(p), slope, start), rtol)
    kernel.run(ref, ref, ref, SEED, 0.3, signs.level(p), slope, start)
    check_same(ref, out)


def built() -> Kernel:
    kernel = cpu.compiled()
    assert kernel is not None
    return kernel


has_build = pytest.mark.skipif(cpu.compiled() is None, reason="no C++ compiler")
