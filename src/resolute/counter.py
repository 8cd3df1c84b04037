"""Random words that are a function of (seed, counter) and of nothing else.

A stateful generator gives other numbers when the batch, the device or the number of threads changes. These words do
not: whoever knows the seed and the position can draw any one of them again, in any order, on any device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
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
