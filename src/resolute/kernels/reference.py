"""The equation on PyTorch's own operations: the truth that each kernel agrees with, bit for bit.

It is what runs where there is no kernel, and where torch.compile, functorch or a dispatch mode looks into it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from resolute import signs

_PIECE = 2**17
"""Elements that are worked on at a time: 0.5 MiB of float32."""


def product(
    src: Tensor,
    ref: Tensor,
    seed: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    start: int | Tensor = 0,
) -> Tensor:
    """Multiply by dg/dx = 1 + eps * l(x) at x = ``ref``, through a (leaky) rectifier.

    With ``src`` = ``ref`` = x it is g(rectified x), since g(x) / x = dg/dx; with the gradient of g as ``src`` it is the
    gradient of x. ``ref`` may also be g: it has the signs of x.

    Args:
        src: Floating point, any shape.
        ref: Of the shape and dtype of ``src``; the signs follow its memory.
        seed: int64, 0-d.
        eps: Strength.
        level: Probability of the sign +1, in steps of 2**-16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        start: Position of the first element in memory, a multiple of 1024.

    Returns:
        Like ``src``; half precision is computed in float32 and rounded once.
    """
    wide = torch.promote_types(ref.dtype, torch.float32)
    strides = torch.empty_like(ref, device="meta").stride()
    order = sorted(range(ref.ndim), key=lambda d: strides[d], reverse=True)
    plus = signs.draw(seed, ref.numel(), level, start).view([ref.shape[d] for d in order])
    plus = plus.permute([order.index(d) for d in range(ref.ndim)])
    value, one = src.to(wide), torch.ones((), dtype=wide, device=ref.device)
    strength = (one * eps).to(wide).reshape(())
    if slope == 0:
        return (value.masked_fill(ref <= 0, 0) * torch.where(plus, one + strength, one - strength)).to(src.dtype)
    factor = torch.where(plus == ref.signbit(), one - strength, one + strength).masked_fill(ref == 0, 1)
    if slope != 1:
        value = torch.where(ref <= 0, value * slope, value)
    return (value * factor).to(src.dtype)


def multiply(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int = 0
) -> None:
    """Do what a kernel does by `product`, on the CPU in pieces whose intermediate results stay in the caches.

    Args:
        src: What is multiplied.
        ref: What the signs belong to.
        out: Where the product goes; it may be ``src``.
        seed: int64, 0-d.
        eps: Strength.
        level: Probability of the sign +1, times 2**16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        start: Position of the first element, a multiple of 1024.
    """
    n = ref.numel()
    flat_src, flat_ref, flat_out = (x.as_strided((n,), (1,)) for x in (src, ref, out))
    size = _PIECE if ref.device.type == "cpu" else n
    for begin in range(0, n, size):
        part = slice(begin, begin + size)
        flat_out[part] = product(flat_src[part], flat_ref[part], seed, eps, level, slope, start + begin)
