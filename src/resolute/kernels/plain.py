"""The kernel where none can be built: PyTorch's operations, in place on pieces that stay in the caches."""

from __future__ import annotations

import torch
from torch import Tensor

from resolute import signs

DTYPES = {torch.float32}
_PIECE = 2**17


def multiply(
    src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float, start: int = 0
) -> None:
    """Run the kernel on tensors that lie in memory in the same way, without gaps.

    Args:
        src: What is multiplied, float32.
        ref: What the signs belong to.
        out: Where the product goes; it may be ``src``.
        seed: int64, 0-d.
        eps: Strength.
        level: Probability of the sign +1, times 2**16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        start: Position of the first element, a multiple of 1024.
    """
    n, less = ref.numel(), torch.tensor(-eps, dtype=torch.float32).view(torch.int32)
    flat_src, flat_ref, flat_out = (x.as_strided((n,), (1,)) for x in (src, ref, out))
    for begin in range(0, n, _PIECE):
        part = slice(begin, begin + _PIECE)
        y, x = flat_src[part], flat_ref[part]
        bits = signs.words(seed, len(x), level, start + begin)
        if slope != 0:
            bits = bits.bitwise_xor_(x.view(torch.int32))
        factor = bits.bitwise_and_(-(2**31)).bitwise_xor_(less).view(torch.float32)
        if slope != 0 and (src is not ref or slope != 1):
            factor.mul_(x != 0)
        torch.mul(_through(y, x, slope), factor.add_(1), out=flat_out[part])


def _through(y: Tensor, x: Tensor, slope: float) -> Tensor:
    if slope == 0:
        return torch.ops.aten.threshold_backward(y, x, 0)  # type: ignore[no-any-return]
    return y if slope == 1 else torch.where(x <= 0, y * slope, y)
