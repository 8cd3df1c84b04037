"""Random words that are a function of (seed, counter) and of nothing else.

A stateful generator gives other numbers when the batch, the device or the number of threads changes. These words do
not: whoever knows the seed and the position can draw any one of them again, in any order, on any device.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


_Word = TypeVar("_Word", int, Tensor, "NDArray[Any]")
_WORD = 0xFFFFFFFF
_ODD = 0x9E3779B9


def words(seed: Tensor, counter: Tensor) -> Tensor:
    """Hash each counter with the seed to 32 random bits.

    Two rounds of the 32-bit finaliser with the lowest known bias, 16-21f0aaad-15-d35a2d97-15 (T. Ettinger's search
    for C. Wellons's hash prospector), each keyed with half of the seed. The seed is scrambled before: otherwise seeds
    0 and 1 would give the same words in another order. The sum of the rounds is returned, so that, unlike a bijection,
    words may repeat as random words do.

    Args:
        seed: int64; its shape broadcasts with that of ``counter``. All 64 bits matter.
        counter: int64, at least 0.

    Returns:
        int64 of the broadcast shape, uniform on [0, 2**32).

    Example:
        >>> words(torch.tensor(1), torch.arange(3)).tolist()
        [2822576212, 2516546248, 332160792]
    """
    low, high = seed & _WORD, (seed >> 32) & _WORD
    high = mix(high ^ mix(low + _ODD))
    low = mix(low ^ high)
    first = mix(((counter & _WORD) ^ low) + _ODD)
    second = mix((first ^ high) + mix(counter >> 32) + _ODD)
    return (first + second) & _WORD


def mix(h: _Word) -> _Word:
    """Scramble words of 32 bits, one to one: the finaliser of `words`.

    Args:
        h: A number, int64 or uint32 numbers; of each the lowest 32 bits count.

    Returns:
        Numbers in [0, 2**32) of the same kind.
    """
    h = h & _WORD
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) & _WORD
    h = ((h ^ (h >> 15)) * 0xD35A2D97) & _WORD
    return stored(h ^ (h >> 15))


def stored(h: _Word) -> _Word:
    """Have a compiler compute words once, wherever they are used.

    Inductor writes out an expression at each of its uses: a hash that reads its word twice at each step would grow by
    2 to the number of steps. It computes what `as_strided` is applied to once, and keeps it in registers if it can.

    Args:
        h: Contiguous, if a tensor.

    Returns:
        The same.
    """
    return h.as_strided(h.shape, h.stride()) if isinstance(h, Tensor) and torch.compiler.is_compiling() else h


def hashed(seeds: NDArray[Any], positions: NDArray[Any], above: int = 0) -> NDArray[Any]:
    """Do what `words` does in NumPy's words of 32 bits: a fourth of the time on a CPU.

    Args:
        seeds: int64; its shape broadcasts with that of ``positions``. At least one dimension.
        positions: uint32, the lower halves of the counters.
        above: Their common upper half.

    Returns:
        uint32 of the broadcast shape.

    Example:
        >>> import numpy as np
        >>> hashed(np.array([1]), np.arange(3, dtype=np.uint32)).tolist()
        [2822576212, 2516546248, 332160792]
    """
    low, high = (seeds & _WORD).astype("uint32"), (seeds >> 32 & _WORD).astype("uint32")
    high = mix_in_place(high ^ mix_in_place(low + _ODD))
    low = mix_in_place(low ^ high)
    first = mix_in_place((positions ^ low) + _ODD)
    second = mix_in_place((first ^ high) + (mix(above) + _ODD & _WORD))
    second += first
    return second


def mix_in_place(h: NDArray[Any]) -> NDArray[Any]:
    """Do what `mix` does, in place.

    Args:
        h: uint32.

    Returns:
        ``h``.
    """
    h ^= h >> 16
    h *= 0x21F0AAAD
    h ^= h >> 15
    h *= 0xD35A2D97
    h ^= h >> 15
    return h


def key(seed: int, *parts: int | float | str) -> int:
    """Derive a seed for one purpose from the seed of a run.

    Args:
        seed: Any integer.
        parts: What the derived seed is for, such as ``("gaussian-noise", 0.1)``. Equal parts give equal seeds.

    Returns:
        An integer in [0, 2**63), the same on every machine and in every process.

    Example:
        >>> key(0, "noise", 0.1) == key(0, "noise", 0.1) != key(1, "noise", 0.1)
        True
    """
    import hashlib

    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def fold(seed: int | Tensor, index: Tensor) -> Tensor:
    """Derive one seed for each index, such as the position of an image in its data set.

    Args:
        seed: A seed, or int64 seeds that broadcast with ``index``.
        index: int64, at least 0.

    Returns:
        int64 seeds of the broadcast shape on the device of ``index``.
    """
    seed = torch.as_tensor(seed, dtype=torch.int64, device=index.device)
    return (words(seed, 2 * index) << 32) | words(seed, 2 * index + 1)


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
    return sign_words(seed, n, level, start) < 0


def sign_words(seed: Tensor, n: int, level: int, start: int | Tensor = 0) -> Tensor:
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
    drawn = words(seed, lanes + planes[:, None]).to(torch.int32).unbind()
    word = drawn[0]
    for digit, plane in enumerate(drawn[1:], start=last + 1):
        word = word | plane if level >> digit & 1 else word & plane
    rows = torch.arange(_LANES, dtype=torch.int32, device=seed.device).view(-1, 1)
    return (_stored(word).view(blocks, 1, _LANES) << rows).view(-1)[:n]


def _stored(words: Tensor) -> Tensor:
    """Have a compiler store words once instead of hashing them for each of their 32 elements."""
    # Inductor loads float32 in fewer instructions than int32.
    return stored(words.view(torch.float32)).view(torch.int32)


def level(p: float) -> int:
    """Express a probability in the steps that the signs are drawn with.

    Args:
        p: Probability of the sign +1.

    Returns:
        The nearest multiple of 2**-16, times 2**16.
    """
    return round(p * (1 << _PLANES))
