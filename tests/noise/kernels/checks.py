"""Kernels compared with the reference, on numbers of many sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from noise.samples import FORMS
from resolute.noise import kernels, signs
from resolute.noise.kernels import cpu, reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from resolute.noise.kernels.reference import Kernel
    from resolute.noise.signs import Groups

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


GROUPS = [signs.groups(**form) for form in FORMS]  # type: ignore[arg-type]
SHAPES: dict[str, Callable[[], Tensor]] = {
    "vector": lambda: torch.randn(70),
    "features": lambda: torch.randn(30, 50),
    "wide features": lambda: torch.randn(3, 1500),
    "one feature": lambda: torch.randn(40, 1),
    "small images": lambda: torch.randn(9, 21, 3, 5),
    "images": lambda: torch.randn(3, 5, 20, 21),
    "large images": lambda: torch.randn(2, 3, 40, 41),
    "images, channels last": lambda: torch.randn(3, 40, 9, 8).to(memory_format=torch.channels_last),
    "small images, channels last": lambda: torch.randn(19, 3, 4, 5).to(memory_format=torch.channels_last),
    "many channels last": lambda: torch.randn(2, 1100, 2, 3).to(memory_format=torch.channels_last),
    "channels in the middle": lambda: torch.randn(4, 6, 7, 5).permute(0, 2, 1, 3),
    "one sample, permuted": lambda: torch.randn(6, 7, 1, 5).permute(2, 1, 3, 0),
    "samples inside": lambda: torch.randn(5, 6, 7).permute(1, 0, 2),
}


def check_groups(kernel: Kernel, shape: str, dtype: torch.dtype, groups: Groups, p: float, start: int = 0) -> None:
    """A kernel of groups is the reference, in every layout, through a rectifier or none."""
    if SHAPES[shape]().ndim < 2 and groups.grain == "channel":
        return
    like = SHAPES[shape]()
    src, ref = (torch.empty_like(like, dtype=dtype).copy_(values(like.numel(), dtype).view(like.shape)) for _ in "12")
    start *= like[0].numel() * signs.BLOCK
    for slope in SLOPES[:3]:
        for y in (src, ref):
            out = kernels.compute(kernel, y, ref, SEED, 0.3, signs.level(p), slope, start=start, groups=groups)
            check_same(out, reference.product(y, ref, SEED, 0.3, signs.level(p), slope, start, groups=groups))


def built() -> Kernel:
    kernel = cpu.compiled()
    assert kernel is not None
    return kernel


has_build = pytest.mark.skipif(cpu.compiled() is None, reason="no C++ compiler")
