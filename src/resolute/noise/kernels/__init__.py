"""How the equation runs fast: one pass over memory, on the CPU in C++ and on the GPU in Triton.

`reference.product` is the truth that both agree with, bit for bit. They see plain tensors alone: what torch.compile,
functorch or a dispatch mode has to look into runs on PyTorch's own operations.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch._C import _are_functorch_transforms_active, _is_tracing, _len_torch_dispatch_stack

from resolute.noise.kernels import cpu, plain, reference

if TYPE_CHECKING:
    from types import ModuleType


_PLAIN = {Tensor, nn.Parameter}


def unobserved(x: Tensor) -> bool:
    """Tell whether an operation on a tensor would run at once, as it stands.

    Args:
        x: Any tensor.

    Returns:
        True if x is an ordinary tensor that nobody traces, transforms or watches.
    """
    # These are asked at each call, often with cold caches: C functions alone, three times as fast as their wrappers.
    if torch.compiler.is_compiling() or type(x) not in _PLAIN:
        return False
    return not (_is_tracing() or _are_functorch_transforms_active() or _len_torch_dispatch_stack())


def serves(x: Tensor) -> bool:
    """Tell whether `multiply` can work on a tensor, here and now.

    Args:
        x: Any tensor.

    Returns:
        True if x is `unobserved`, strided, and on a CPU or a CUDA device.
    """
    return unobserved(x) and (x.is_cpu or x.is_cuda) and x.layout is torch.strided


def multiply(
    src: Tensor, ref: Tensor, seed: Tensor, eps: float, level: int, slope: float, inplace: bool, start: int = 0
) -> Tensor:
    """Do what `reference.product` does, in one pass where there is a kernel.

    Args:
        src: What is multiplied, of the shape and dtype of ``ref``.
        ref: What the signs belong to; `serves` holds for it.
        seed: int64, 0-d, on the device of ``ref``.
        eps: Strength.
        level: Probability of the sign +1, times 2**16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        inplace: Write into ``src``.
        start: Position of the first element, a multiple of 1024.

    Returns:
        ``src`` or a new tensor with the memory format of ``ref``.
    """
    out = torch.empty_like(ref, device="meta") if inplace else torch.empty_like(ref)
    stride = out.stride()
    dense_ref = _laid_out(ref, stride)
    dense_src = dense_ref if src is ref else _laid_out(src, stride)
    if inplace:
        out = dense_src
    if out.numel():
        kernel = _kernel(ref.is_cuda)
        work = kernel.multiply if kernel is not None and ref.dtype in kernel.DTYPES else reference.multiply
        work(dense_src, dense_ref, out, seed, eps, level, slope, start)
    return src.copy_(out) if inplace and out is not src else out


def _laid_out(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    if x.stride() == stride:
        return x
    return torch.empty_strided(x.shape, stride, dtype=x.dtype, device=x.device).copy_(x)


@functools.cache
def _kernel(cuda: bool) -> ModuleType | None:
    if not cuda:
        return cpu if cpu.library() is not None else plain
    return (
        importlib.import_module("resolute.noise.kernels.gpu")
        if importlib.util.find_spec("triton") is not None
        else None
    )
