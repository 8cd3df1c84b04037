"""The kernel for the GPU, in Triton. The seed stays on the device: nothing waits for it, and CUDA graphs replay it."""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from resolute.noise.kernels.reference import Kernel


def _launch(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int
) -> None:
    n = ref.numel()
    with torch.cuda.device(ref.device) if ref.is_cuda else contextlib.nullcontext():
        _multiply[(triton.cdiv(n, 1024),)](
            src, ref, out, seed, n, start // 1024, eps, slope,
            level=level, rectify=slope == 0, wide=tl.float64 if ref.dtype == torch.float64 else tl.float32, num_warps=1,
        )  # fmt: skip


@triton.jit
def _mix(h: tl.tensor) -> tl.tensor:
    h = (h ^ (h >> 16)) * 0x21F0AAAD
    h = (h ^ (h >> 15)) * 0xD35A2D97
    return h ^ (h >> 15)


@triton.jit
def _draw(seed: tl.tensor, block: tl.tensor, level: tl.constexpr) -> tl.tensor:
    """Give 32 words: bit b from the top of word k is the sign of element 32 * b + k of the block."""
    lane = tl.arange(0, 32)
    key = tl.load(seed + lane * 0)
    low, high = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    high = _mix(high ^ _mix(low + 0x9E3779B9))
    low = _mix(low ^ high)
    first = _mix(((block * 32 + lane).to(tl.uint32) ^ low) + 0x9E3779B9)
    words = first * 0
    if level >= 65536:
        words = words ^ 0xFFFFFFFF
    for back in tl.static_range(16):
        if level % (2 << back) != 0 and level < 65536:
            step = _mix(first * 0 + (15 - back)) + 0x9E3779B9
            word = first + _mix((first ^ high) + step)
            words = words | word if (level >> back) % 2 == 1 else words & word
    return words


@triton.jit
def _multiply(
    src: tl.tensor, ref: tl.tensor, out: tl.tensor, seed: tl.tensor, n: tl.tensor, start: tl.tensor,
    eps: tl.float64, slope: tl.float64,
    level: tl.constexpr, rectify: tl.constexpr, wide: tl.constexpr,
) -> None:  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    bit = tl.arange(0, 32)[:, None]
    words = _draw(seed, start + block, level)
    plus = ((words[None, :] >> (31 - bit)) & 1) == 1
    at = block * 1024 + bit * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(ref + at, mask=at < n, other=0).to(wide)
    y = tl.load(src + at, mask=at < n, other=0).to(wide)
    strength = tl.full((1, 1), eps, wide)
    shrink = tl.full((1, 1), slope, wide)
    if rectify:
        product = tl.where(x <= 0, 0, y) * tl.where(plus, 1 + strength, 1 - strength)
    else:
        below = x.to(tl.int64 if wide == tl.float64 else tl.int32, bitcast=True) < 0
        factor = tl.where(x == 0, 1, tl.where(plus == below, 1 - strength, 1 + strength))
        product = tl.where(x <= 0, y * shrink, y) * factor
    tl.store(out + at, product.to(out.dtype.element_ty), mask=at < n)


TRITON = Kernel("Triton", frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16}), _launch)
