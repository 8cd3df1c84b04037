"""The equation on PyTorch's own operations: the truth that each kernel agrees with, bit for bit.

It is what runs where there is no kernel, and where torch.compile, functorch or a dispatch mode looks into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resolute.noise import signs

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    order: Sequence[int] | None = None,
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
        order: Dimensions from the outermost to the innermost, as the signs follow each other; None for that of
            ``ref`` in memory.

    Returns:
        Like ``src``; half precision is computed in float32 and rounded once.
    """
    wide = torch.promote_types(ref.dtype, torch.float32)
    order = memory_order(ref) if order is None else order
    plus = signs.draw(seed, ref.numel(), level, start).view([ref.shape[d] for d in order])
    plus = plus.permute([order.index(d) for d in range(ref.ndim)])
    value, one = src.to(wide), torch.ones((), dtype=wide, device=ref.device)
    strength = (one * eps).to(wide).reshape(())
    if slope == 0:
        return (torch.where(ref <= 0, 0, value) * torch.where(plus, one + strength, one - strength)).to(src.dtype)
    factor = torch.where(ref == 0, 1, torch.where(plus == ref.signbit(), one - strength, one + strength))
    if slope != 1:
        value = torch.where(ref <= 0, value * slope, value)
    return (value * factor).to(src.dtype)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """Tell in which order the dimensions of a tensor lie in memory.

    Args:
        x: Any tensor; one whose elements overlap, or leave gaps, counts as ``torch.empty_like`` would lay it out.

    Returns:
        Dimensions from the outermost to the innermost.

    Example:
        >>> memory_order(torch.empty(2, 3, 4, 5).to(memory_format=torch.channels_last))
        (0, 2, 3, 1)
    """
    strides = torch.empty_like(x, device="meta").stride()
    return tuple(sorted(range(x.ndim), key=lambda d: strides[d], reverse=True))


def reordered(x: Tensor, order: Sequence[int]) -> Tensor:
    """Bring the dimensions of a tensor into an order in memory.

    Args:
        x: Any tensor.
        order: As of `memory_order`.

    Returns:
        ``x`` itself, or a copy.
    """
    return x.permute(*order).contiguous().permute([order.index(d) for d in range(x.ndim)])


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
