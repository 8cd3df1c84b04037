"""The kernel where none can be built: NumPy draws the words, PyTorch multiplies, in place on pieces that stay cached.

A word of NumPy's is hashed in 32 bits and a call of it costs a fourth of one of PyTorch's, which has no unsigned words.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from resolute.noise.kernels.reference import PIECE, Kernel, pieces
from resolute.noise.signs import BLOCK, LANES, ODD, WORD, mix, mix_in_place

_ROWS = torch.arange(LANES, dtype=torch.int32).view(-1, 1)


def _multiply(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int
) -> None:
    less, key = int(np.float32(-eps).view(np.int32)), int(seed)
    for begin, y, x, to in pieces(src, ref, out, PIECE):
        bits = _words(key, len(x), level, start + begin)
        if slope != 0:
            bits = bits.bitwise_xor_(x.view(torch.int32))
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
