"""The equation in plain operations: torch's, which every kernel must equal, and NumPy's, where no compiler is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from resolute.noise import signs
from resolute.noise.signs import BLOCK, LANES, ODD, WORD, mix, mix_in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from resolute.noise.signs import Groups


PIECE = 2**17
"""Elements that are worked on at a time: 0.5 MiB of float32."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A way to write `product` of tensors that lie in memory alike, without gaps, to ``out``, which may be ``src``."""

    name: str
    dtypes: frozenset[torch.dtype]
    run: Callable[..., None]  # (src, ref, out, seed, eps, level, slope, start, groups)


def product(
    src: Tensor,
    ref: Tensor,
    seed: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    start: int | Tensor = 0,
    order: Sequence[int] | None = None,
    groups: Groups | None = None,
) -> Tensor:
    """Multiply by dg/dx = 1 + eps * l(x) at x = ``ref``, through a (leaky) rectifier."""
    # With ``src`` = ``ref`` = x it is g(rectified x), since g(x) / x = dg/dx; with the gradient of g as ``src`` it is
    # the gradient of x. ``ref`` may also be g: it has the signs of x.
    wide = torch.promote_types(ref.dtype, torch.float32)
    value, one = src.to(wide), torch.ones((), dtype=wide, device=ref.device)
    strength = (one * eps).to(wide)
    strength = strength.reshape(()) if groups is not None or strength.numel() == 1 else strength
    if groups is not None:
        strength = groups.strengths(seed, ref.shape, strength, level, start)
    if groups is None or groups.grain == "element":
        order = memory_order(ref) if order is None else order
        plus = signs.draw(seed, ref.numel(), level, start).view([ref.shape[d] for d in order])
        plus = plus.permute([order.index(d) for d in range(ref.ndim)])
    else:
        plus = torch.ones((), dtype=torch.bool, device=ref.device)  # the strengths have signs of their own
    if slope == 0:
        return (torch.where(ref <= 0, 0, value) * torch.where(plus, one + strength, one - strength)).to(src.dtype)
    factor = torch.where(ref == 0, 1, torch.where(plus == ref.signbit(), one - strength, one + strength))
    if slope != 1:
        value = torch.where(ref <= 0, value * slope, value)
    return (value * factor).to(src.dtype)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """Tell in which order the dimensions of a tensor lie in memory."""
    strides = torch.empty_like(x, device="meta").stride()
    return tuple(sorted(range(x.ndim), key=lambda d: strides[d], reverse=True))


def reordered(x: Tensor, order: Sequence[int]) -> Tensor:
    """Bring the dimensions of a tensor into an order in memory."""
    return x.permute(*order).contiguous().permute([order.index(d) for d in range(x.ndim)])


def pieces(src: Tensor, ref: Tensor, out: Tensor, size: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Cut tensors into pieces of at most ``size`` elements, in memory order, each with the position it begins at."""
    n = ref.numel()
    flat = [x.as_strided((n,), (1,)) for x in (src, ref, out)]
    for begin in range(0, n, size):
        y, x, to = (each[begin : begin + size] for each in flat)
        yield begin, y, x, to


def _in_pieces(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int,
    groups: Groups | None = None,
) -> None:  # fmt: skip
    """Compute `product`; on a CPU in pieces, whose intermediate results stay in its caches."""
    strength, own = _strengths(ref, seed, eps, level, start, groups)
    for begin, y, x, to in pieces(src, ref, out, PIECE if ref.is_cpu else ref.numel()):
        to.copy_(product(y, x, seed, strength(begin, len(x)), own, slope, start + begin))


def _strengths(
    ref: Tensor, seed: Tensor, eps: float, level: int, start: int, groups: Groups | None
) -> tuple[Callable[[int, int], float | Tensor], int]:
    """Give the strength of any elements in memory order, and the level of the signs that are their own."""
    if groups is None:
        return lambda _begin, _n: eps, level
    wide = torch.promote_types(ref.dtype, torch.float32)
    table = groups.strengths(seed, ref.shape, torch.tensor(eps, dtype=wide, device=ref.device), level, start).flatten()
    run, inner, channels = groups.layout(ref.shape, ref.stride())

    def strength(begin: int, n: int) -> Tensor:
        i = torch.arange(begin, begin + n, device=ref.device)
        return table[i // run * channels + i // inner % channels]

    return strength, level if groups.grain == "element" else signs.ALWAYS


PYTORCH = Kernel("PyTorch's operations", frozenset(), _in_pieces)
"""What is left where no other kernel takes a dtype or a device."""

_ROWS = torch.arange(LANES, dtype=torch.int32).view(-1, 1)


def _multiply(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int,
    groups: Groups | None = None,
) -> None:  # fmt: skip
    key, (strength, own) = int(seed), _strengths(ref, seed, eps, level, start, groups)
    for begin, y, x, to in pieces(src, ref, out, PIECE):
        bits = _words(key, len(x), own, start + begin)
        if slope != 0:
            bits = bits.bitwise_xor_(x.view(torch.int32))
        less = torch.neg(torch.as_tensor(strength(begin, len(x)), dtype=torch.float32)).view(torch.int32)
        factor = bits.bitwise_and_(-(2**31)).bitwise_xor_(less).view(torch.float32)
        if slope != 0 and (src is not ref or slope != 1):
            factor.mul_(x != 0)
        torch.mul(_through(y, x, slope), factor.add_(1), out=to)


def _through(y: Tensor, x: Tensor, slope: float) -> Tensor:
    if slope == 0:
        return torch.ops.aten.threshold_backward(y, x, 0)  # type: ignore[no-any-return]
    return y if slope == 1 else torch.where(x <= 0, y * slope, y)


def _words(seed: int, n: int, level: int, start: int) -> Tensor:
    """Draw what `signs.words` draws."""
    if level in {0, 1 << 16}:
        return torch.full((n,), -int(level > 0), dtype=torch.int32)
    high = mix((seed >> 32 & WORD) ^ mix(seed + ODD))
    low = mix(seed & WORD ^ high)
    blocks, lane = -(-n // BLOCK), start // LANES
    first = mix_in_place((np.arange(lane, lane + blocks * LANES).astype(np.uint32) ^ low) + ODD)
    keyed, drawn, undecided = first ^ high, np.zeros_like(first), np.full_like(first, WORD)
    for plane in range(16 - ((level & -level).bit_length() - 1)):
        bits = mix_in_place(keyed + (mix(plane) + ODD & WORD)) + first
        if level >> 15 - plane & 1:
            drawn |= undecided & bits
            undecided &= ~bits
        else:
            undecided &= bits
        if not undecided.any():
            break
    lanes = torch.from_numpy(drawn.view(np.int32)).view(blocks, 1, LANES)
    return (lanes << _ROWS).view(-1)[:n]


NUMPY = Kernel("NumPy", frozenset({torch.float32}), _multiply)
