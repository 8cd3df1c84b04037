"""The random signs: which elements get +1, as a function of a seed and of the position in memory alone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from resolute import counter

if TYPE_CHECKING:
    from collections.abc import Iterator

_LANES = 32
"""Words that lie side by side; each serves one bit to 32 rows of as many elements."""

_PLANES = 16
"""Binary digits of p: it is rounded to a multiple of 2**-16."""

BLOCK = _LANES**2
"""Signs are drawn in blocks of so many elements."""

_rank: int | None = None


@contextlib.contextmanager
def sharded(rank: int) -> Iterator[None]:
    """Within, number elements as if the batches of all processes lay one after the other in one tensor.

    Processes whose generators are in the same state, each with as many samples, then draw the signs that one process
    draws with the whole batch, also under `sharded`. Each sample begins a block of its own, for which every perturbed
    tensor is copied. Not for threads that train side by side in one process.

    Args:
        rank: How many processes' samples come before those of this one.

    Yields:
        Nothing.
    """
    global _rank
    before, _rank = _rank, rank
    try:
        yield
    finally:
        _rank = before


def rank() -> int | None:
    """Tell whether and where a batch stands among those of other processes.

    Returns:
        The rank that `sharded` was given; None outside of it.
    """
    return _rank


def draw_seed(x: Tensor) -> Tensor:
    """Draw a seed from torch's generator of the device of x.

    Args:
        x: Any tensor.

    Returns:
        int64, 0-d, on the device of ``x``.
    """
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=x.device)


def draw(seed: Tensor, n: int, level: int, start: int | Tensor = 0) -> Tensor:
    """Draw the signs of n elements in memory order.

    Args:
        seed: int64, 0-d.
        n: Number of elements.
        level: Probability of True, in steps of 2**-16.
        start: Position of the first one, a multiple of `BLOCK`.

    Returns:
        bool of shape [n] on the device of ``seed``: True for +1.
    """
    return words(seed, n, level, start) < 0


def words(seed: Tensor, n: int, level: int, start: int | Tensor = 0) -> Tensor:
    """Draw n words whose top bits are the signs of `draw`.

    In each block of 1024 elements, element 32 * b + k takes bit b, counted from the top, of lane k. A lane of p = 0.5
    is one hashed word. In general each binary digit of p, up to the last that is 1, has a plane of words of its own;
    from the last to the first they are joined by "or" where the digit is 1 and by "and" where it is 0, which makes
    bits that are 1 with probability p.

    Args:
        seed: As in `draw`.
        n: As in `draw`.
        level: As in `draw`.
        start: As in `draw`.

    Returns:
        int32 of shape [n]; bits below the top one mean nothing.
    """
    if level in {0, 1 << _PLANES}:
        return torch.full((n,), -int(level > 0), dtype=torch.int32, device=seed.device)
    blocks = -(-n // BLOCK)
    lanes = start // _LANES + torch.arange(blocks * _LANES, device=seed.device)
    last = (level & -level).bit_length() - 1
    planes = torch.arange(_PLANES - 1 - last, -1, -1, device=seed.device) << 32
    drawn = counter.words(seed, lanes + planes[:, None]).to(torch.int32).unbind()
    word = drawn[0]
    for digit, plane in enumerate(drawn[1:], start=last + 1):
        word = word | plane if level >> digit & 1 else word & plane
    rows = torch.arange(_LANES, dtype=torch.int32, device=seed.device).view(-1, 1)
    return (_stored(word).view(blocks, 1, _LANES) << rows).view(-1)[:n]


def _stored(words: Tensor) -> Tensor:
    """Have a compiler store words once instead of hashing them for each of their 32 elements."""
    # Inductor loads float32 in fewer instructions than int32.
    return counter.stored(words.view(torch.float32)).view(torch.int32)


def level(p: float) -> int:
    """Express a probability in the steps that the signs are drawn with.

    Args:
        p: Probability of the sign +1.

    Returns:
        The nearest multiple of 2**-16, times 2**16.
    """
    return round(p * (1 << _PLANES))
