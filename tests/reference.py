"""The method as slow, obvious truth: one element at a time, in Python's own integers and exact fractions."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

WORD = 2**32
ODD = 0x9E3779B9


def mix(h: int) -> int:
    """Scramble 32 bits: the finaliser 16-21f0aaad-15-d35a2d97-15."""
    h ^= h >> 16
    h = h * 0x21F0AAAD % WORD
    h ^= h >> 15
    h = h * 0xD35A2D97 % WORD
    return h ^ (h >> 15)


def word(seed: int, counter: int) -> int:
    """Hash a counter, below 2**64, with a seed to 32 bits."""
    high, low = divmod(seed % 2**64, WORD)
    high = mix(high ^ mix((low + ODD) % WORD))
    low = mix(low ^ high)
    first = mix(((counter % WORD ^ low) + ODD) % WORD)
    second = mix(((first ^ high) + mix(counter // WORD) + ODD) % WORD)
    return (first + second) % WORD


def sign(seed: int, position: int, p: float) -> int:
    """Draw s of the element at a position in memory order: is a random number of 16 binary digits below p?"""
    block, rest = divmod(position, 1024)
    bit, lane = divmod(rest, 32)
    digits = [word(seed, plane * WORD + 32 * block + lane) >> (31 - bit) & 1 for plane in range(16)]
    number = sum((1 - digit) << (15 - plane) for plane, digit in enumerate(digits))
    return 1 if number < round(p * 2**16) else -1


def memory_order(x: Tensor) -> list[tuple[int, ...]]:
    """List the indices of the elements as they lie in memory, or would in a copy without gaps and overlaps."""
    strides = torch.empty_like(x).stride()
    indices = itertools.product(*map(range, x.shape))
    return sorted(indices, key=lambda index: sum(i * stride for i, stride in zip(index, strides, strict=True)))


def signs(x: Tensor, seed: int, p: float) -> Tensor:
    """Draw s for every element of a tensor."""
    out = torch.empty(x.shape, dtype=torch.float64)
    for position, index in enumerate(memory_order(x)):
        out[index] = sign(seed, position, p)
    return out


def group_strengths(
    x: Tensor, seed: int, eps: float, p: float, grain: str, spread: str, share: float, channel: int = 1
) -> Tensor:
    """Give, for every element, its sample's strength, with the sign that it shares with others if it shares one."""
    out = torch.empty(x.shape, dtype=torch.float64)
    for index in itertools.product(*map(range, x.shape)):
        n = index[0]
        strength = eps * (word(seed, 16 * WORD + n) >> 8) / 2**24 if spread == "random" else eps
        strength *= word(seed, 17 * WORD + n) / WORD < round(share * 2**16) / 2**16
        group = n * x.shape[channel] + index[channel] if grain == "channel" else n
        out[index] = strength * (1 if grain == "element" else sign(seed, group, p))
    return out


def perturbed(x: float, eps: float, s: int) -> Fraction:
    """Give g(x) = x + eps * x * l(x) with l(x) = s * sgn(x), exactly."""
    sgn = (x > 0) - (x < 0)
    return Fraction(x) + Fraction(eps) * Fraction(x) * s * sgn


def last_place(value: float, dtype: torch.dtype) -> Fraction:
    """Give the distance between neighbouring numbers of a dtype around a value."""
    info = torch.finfo(dtype)
    exponent = math.frexp(max(abs(value), info.tiny))[1]
    return Fraction(info.eps) * Fraction(2) ** (exponent - 1)


def next_seed() -> int:
    """Tell which seed the next call of `perturb` will draw, without drawing it."""
    with torch.random.fork_rng():
        return int(torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64))
