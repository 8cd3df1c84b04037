"""How the equation runs fast: one pass over memory, on the CPU in C++ and on the GPU in Triton.

`reference.product` is the truth that each kernel agrees with, bit for bit. `choose` decides which one runs, once for a
call, and `compute` runs it. They see plain tensors alone: what torch.compile, functorch or a dispatch mode has to look
into runs on PyTorch's own operations.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._C import _are_functorch_transforms_active, _is_tracing, _len_torch_dispatch_stack
from torch.autograd import forward_ad

from resolute.noise.kernels import cpu, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolute.noise.kernels.reference import Kernel
    from resolute.noise.signs import Groups


_PLAIN = {Tensor, nn.Parameter}


def choose(ref: Tensor, src: Tensor | None = None) -> Kernel | None:
    """Decide what computes on these tensors, here and now: a kernel, or None where somebody looks into it."""
    # These are asked at each call, often with cold caches: C functions alone, three times as fast as their wrappers.
    if rewritten() or type(ref) not in _PLAIN or ref.layout is not torch.strided:
        return None
    if src is not None and (type(src) not in _PLAIN or src.layout is not torch.strided):
        return None
    if _len_torch_dispatch_stack() or forward_ad._current_level >= 0:
        return None
    return _fastest(ref.device, ref.dtype)


def rewritten() -> bool:
    """Tell whether the operations are traced or transformed."""
    return torch.compiler.is_compiling() or _is_tracing() or _are_functorch_transforms_active()


@functools.cache
def _fastest(device: torch.device, dtype: torch.dtype) -> Kernel:
    kernel = None
    if device.type == "cpu":
        kernel = cpu.compiled() or reference.NUMPY
    elif device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        kernel = importlib.import_module("resolute.noise.kernels.gpu").TRITON
    return kernel if kernel is not None and dtype in kernel.dtypes else reference.PYTORCH


def compute(
    kernel: Kernel | None,
    src: Tensor,
    ref: Tensor,
    seed: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    inplace: bool = False,
    start: int | Tensor = 0,
    order: Sequence[int] | None = None,
    groups: Groups | None = None,
) -> Tensor:
    """Do what `reference.product` does, by what `choose` has chosen for ``ref`` and ``src``."""
    if kernel is None:
        out = reference.product(src, ref, seed, eps, level, slope, start, order, groups)
        return src.copy_(out) if inplace else out
    if order is not None:
        ref = reference.reordered(ref, order)
    out = torch.empty_like(ref, device="meta") if inplace else torch.empty_like(ref)
    stride = out.stride()
    if groups is not None and ref.shape[0] > 1 and stride[0] * ref.shape[0] != ref.numel():
        # A kernel counts groups sample by sample; samples that lie interleaved in memory are left to PyTorch.
        return compute(None, src, ref, seed, eps, level, slope, inplace, start, None, groups)
    dense_ref = _laid_out(ref, stride)
    dense_src = dense_ref if src is ref else _laid_out(src, stride)
    if inplace:
        out = dense_src
    if out.numel():
        kernel.run(dense_src, dense_ref, out, seed, float(eps), level, slope, int(start), groups)
    if inplace and out is not src:
        return src.copy_(out)
    if inplace:  # autograd does not see what a kernel overwrites
        torch.autograd.graph.increment_version(src)
    return out


def _laid_out(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    if x.stride() == stride and not (x.is_neg() or x._is_zerotensor()):  # what lies in memory is not x, or nothing
        return x
    return torch.empty_strided(x.shape, stride, dtype=x.dtype, device=x.device).copy_(x)
