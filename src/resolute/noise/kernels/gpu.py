"""The kernel for the GPU, in Triton. The seed stays on the device: nothing waits for it, and CUDA graphs replay it."""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from resolute.noise.kernels.reference import Kernel
from resolute.noise.signs import ALWAYS, Groups


def _launch(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int,
    groups: Groups | None = None,
) -> None:  # fmt: skip
    n, double = ref.numel(), ref.dtype == torch.float64
    wide, table, run, inner, channels = tl.float64 if double else tl.float32, seed, 0, 0, 0
    with torch.cuda.device(ref.device) if ref.is_cuda else contextlib.nullcontext():
        if groups is not None:
            run, inner, channels = groups.layout(ref.shape, ref.stride())
            count = ref.shape[0] * channels
            table = torch.empty(count, dtype=torch.float64 if double else torch.float32, device=ref.device)
            _strengths[(triton.cdiv(count, 1024),)](
                seed, table, count, start // run * channels, channels, eps, groups.share, level=level,
                element=groups.grain == "element", random=groups.spread == "random", wide=wide, num_warps=4,
            )  # fmt: skip
            level = level if groups.grain == "element" else ALWAYS
        _multiply[(triton.cdiv(n, 1024),)](
            src, ref, out, seed, n, start // 1024, eps, slope, table, run, inner, channels,
            level=level, rectify=slope == 0, wide=wide, grouped=groups is not None, num_warps=1,
        )  # fmt: skip


@triton.jit
def _mix(h: tl.tensor) -> tl.tensor:
    h = (h ^ (h >> 16)) * 0x21F0AAAD
    h = (h ^ (h >> 15)) * 0xD35A2D97
    return h ^ (h >> 15)


@triton.jit
def _first(seed: tl.tensor, counter: tl.tensor) -> tl.tensor:
    """Give the half of a word that is the same for each of its planes, and the key of the other half."""
    key = tl.load(seed + counter * 0)
    low, high = key.to(tl.uint32), (key >> 32).to(tl.uint32)
    high = _mix(high ^ _mix(low + 0x9E3779B9))
    low = _mix(low ^ high)
    return _mix((counter.to(tl.uint32) ^ low) + 0x9E3779B9), high


@triton.jit
def _word(first: tl.tensor, high: tl.tensor, plane: tl.constexpr) -> tl.tensor:
    return first + _mix((first ^ high) + (_mix(first * 0 + plane) + 0x9E3779B9))


@triton.jit
def _draw(seed: tl.tensor, lane: tl.tensor, level: tl.constexpr) -> tl.tensor:
    """Give words: bit b from the top of word k of a block is the sign of its element 32 * b + k."""
    first, high = _first(seed, lane)
    words = first * 0
    if level >= 65536:
        words = words ^ 0xFFFFFFFF
    for back in tl.static_range(16):
        if level % (2 << back) != 0 and level < 65536:
            word = _word(first, high, 15 - back)
            words = words | word if (level >> back) % 2 == 1 else words & word
    return words


@triton.jit
def _strengths(
    seed: tl.tensor, table: tl.tensor, count: tl.tensor, start: tl.tensor, channels: tl.tensor,
    eps: tl.float64, share: tl.tensor,
    level: tl.constexpr, element: tl.constexpr, random: tl.constexpr, wide: tl.constexpr,
) -> None:  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * 1024 + tl.arange(0, 1024)
    group = start + at
    first, high = _first(seed, group // channels)
    strength = tl.full((1024,), eps, wide)
    if random:
        strength = strength * ((_word(first, high, 16) >> 8).to(wide) * (1.0 / 16777216))
    strength = tl.where((_word(first, high, 17) >> 16) < share, strength, 0)
    if not element:
        word = _draw(seed, group // 1024 * 32 + group % 32, level)
        plus = ((word >> (31 - group // 32 % 32).to(tl.uint32)) & 1) == 1
        strength = tl.where(plus, strength, -strength)
    tl.store(table + at, strength, mask=at < count)


@triton.jit
def _multiply(
    src: tl.tensor, ref: tl.tensor, out: tl.tensor, seed: tl.tensor, n: tl.tensor, start: tl.tensor,
    eps: tl.float64, slope: tl.float64,
    table: tl.tensor, run: tl.tensor, inner: tl.tensor, channels: tl.tensor,
    level: tl.constexpr, rectify: tl.constexpr, wide: tl.constexpr, grouped: tl.constexpr,
) -> None:  # fmt: skip
    block = tl.program_id(0).to(tl.int64)
    bit = tl.arange(0, 32)[:, None]
    words = _draw(seed, (start + block) * 32 + tl.arange(0, 32), level)
    plus = ((words[None, :] >> (31 - bit)) & 1) == 1
    at = block * 1024 + bit * 32 + tl.arange(0, 32)[None, :]
    x = tl.load(ref + at, mask=at < n, other=0).to(wide)
    y = tl.load(src + at, mask=at < n, other=0).to(wide)
    if grouped:  # the sample and the place in it by one division of 64 bits; the rest by 32 where they are enough
        sample, begin = block * 1024 // run, block * 1024 % run
        place = begin + bit * 32 + tl.arange(0, 32)[None, :]
        group = (sample + place // run) * channels + place % run // inner % channels
        strength = tl.load(table + group, mask=at < n, other=0)
    else:
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
