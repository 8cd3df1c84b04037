"""Random signs and words: a function of seed and position, and of nothing else.

A stateful generator gives other numbers when the batch, the device or the number of threads changes. These do not:
whoever knows the seed and the position can draw any one of them again, in any order, on any device.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


_Word = TypeVar("_Word", int, Tensor, "NDArray[Any]")
WORD = 0xFFFFFFFF
ODD = 0x9E3779B9


def words(seed: Tensor, counter: Tensor) -> Tensor:
    """Hash each counter with the seed to 32 random bits."""
    # Two rounds of the 32-bit finaliser with the lowest known bias, 16-21f0aaad-15-d35a2d97-15 (T. Ettinger's search
    # for C. Wellons's hash prospector), each keyed with half of the seed. The seed is scrambled before: otherwise seeds
    # 0 and 1 would give the same words in another order. The sum of the rounds is returned, so that, unlike a
    # bijection, words may repeat as random words do.
    low, high = seed & WORD, (seed >> 32) & WORD
    high = mix(high ^ mix(low + ODD))
    low = mix(low ^ high)
    first = mix(((counter & WORD) ^ low) + ODD)
    second = mix((first ^ high) + mix(counter >> 32) + ODD)
    return (first + second) & WORD


def mix(h: _Word) -> _Word:
    """Scramble words of 32 bits, one to one: the finaliser of `words`."""
    h = h & WORD
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) & WORD
    h = ((h ^ (h >> 15)) * 0xD35A2D97) & WORD
    return stored(h ^ (h >> 15))


def stored(h: _Word) -> _Word:
    """Have a compiler compute words once, wherever they are used."""
    # Inductor writes out an expression at each of its uses: a hash that reads its word twice at each step would grow by
    # 2 to the number of steps. It computes what `as_strided` is applied to once, and keeps it in registers if it can.
    return h.as_strided(h.shape, h.stride()) if isinstance(h, Tensor) and torch.compiler.is_compiling() else h


def hashed(seeds: NDArray[Any], positions: NDArray[Any], above: int = 0) -> NDArray[Any]:
    """Do what `words` does in NumPy's words of 32 bits: a fourth of the time on a CPU."""
    low, high = (seeds & WORD).astype("uint32"), (seeds >> 32 & WORD).astype("uint32")
    high = mix_in_place(high ^ mix_in_place(low + ODD))
    low = mix_in_place(low ^ high)
    first = mix_in_place((positions ^ low) + ODD)
    second = mix_in_place((first ^ high) + (mix(above) + ODD & WORD))
    second += first
    return second


def mix_in_place(h: NDArray[Any]) -> NDArray[Any]:
    """Do what `mix` does, in place."""
    h ^= h >> 16
    h *= 0x21F0AAAD
    h ^= h >> 15
    h *= 0xD35A2D97
    h ^= h >> 15
    return h


def key(seed: int, *parts: int | float | str) -> int:
    """Derive a seed for one purpose from the seed of a run."""
    import hashlib

    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def fold(seed: int | Tensor, index: Tensor) -> Tensor:
    """Derive one seed for each index, such as the position of an image in its data set."""
    seed = torch.as_tensor(seed, dtype=torch.int64, device=index.device)
    return (words(seed, 2 * index) << 32) | words(seed, 2 * index + 1)


LANES = 32
"""Words that lie side by side; each serves one bit to 32 rows of as many elements."""

_PLANES = 16
"""Binary digits of p: it is rounded to a multiple of 2**-16."""

ALWAYS = 1 << _PLANES
"""The level of a probability of 1."""

BLOCK = LANES**2
"""Signs are drawn in blocks of so many elements."""

_rank: int | None = None


@contextlib.contextmanager
def sharded(rank: int) -> Iterator[None]:
    """Within, number elements as if the batches of all processes lay one after the other in one tensor."""
    # Processes whose generators are in the same state, each with as many samples, then draw the signs that one process
    # draws with the whole batch, also under `sharded`. Each sample begins a block of its own, for which every perturbed
    # tensor is copied. Not for threads that train side by side in one process.
    global _rank
    before, _rank = _rank, rank
    try:
        yield
    finally:
        _rank = before


def group_rank() -> int | None:
    """Tell whether and where a batch stands among those of other processes."""
    return _rank


def draw_seed(x: Tensor) -> Tensor:
    """Draw a seed from torch's generator of the device of x."""
    return torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=x.device)


def draw(seed: Tensor, n: int, level: int, start: int | Tensor = 0) -> Tensor:
    """Draw the signs of n elements in memory order."""
    return sign_words(seed, n, level, start) < 0


def sign_words(seed: Tensor, n: int, level: int, start: int | Tensor = 0) -> Tensor:
    """Draw n words whose top bits are the signs of `draw`."""
    # In each block of 1024 elements, element 32 * b + k takes bit b, counted from the top, of lane k. A lane of p = 0.5
    # is one hashed word. In general each binary digit of p, up to the last that is 1, has a plane of words of its own;
    # from the last to the first they are joined by "or" where the digit is 1 and by "and" where it is 0, which makes
    # bits that are 1 with probability p.
    if level in {0, ALWAYS}:
        return torch.full((n,), -int(level > 0), dtype=torch.int32, device=seed.device)
    blocks = -(-n // BLOCK)
    lanes = start // LANES + torch.arange(blocks * LANES, device=seed.device)
    rows = torch.arange(LANES, dtype=torch.int32, device=seed.device).view(-1, 1)
    return (_stored(_joined(seed, lanes, level)).view(blocks, 1, LANES) << rows).view(-1)[:n]


def _joined(seed: Tensor, lanes: Tensor, level: int) -> Tensor:
    """Draw words of which each bit is 1 with the probability that ``level`` stands for."""
    last = (level & -level).bit_length() - 1
    planes = torch.arange(_PLANES - 1 - last, -1, -1, device=seed.device) << 32
    drawn = words(seed, lanes + planes[:, None]).to(torch.int32).unbind()
    word = drawn[0]
    for digit, plane in enumerate(drawn[1:], start=last + 1):
        word = word | plane if level >> digit & 1 else word & plane
    return word


def _stored(words: Tensor) -> Tensor:
    """Have a compiler store words once instead of hashing them for each of their 32 elements."""
    # Inductor loads float32 in fewer instructions than int32.
    return stored(words.view(torch.float32)).view(torch.int32)


def level(p: float) -> int:
    """Express a probability in the steps that the signs are drawn with."""
    return round(p * ALWAYS)


Grain = Literal["element", "channel", "sample"]
Spread = Literal["fixed", "random"]
_SPREAD, _SHARE = _PLANES, _PLANES + 1
"""Planes of the words that tell a sample's strength, and whether it gets noise."""


class Groups(NamedTuple):
    """Which elements share a sign, and how much noise each sample gets: all that differs from the paper's noise."""

    grain: Grain = "element"
    spread: Spread = "fixed"
    share: int = ALWAYS  # a level
    channel: int = 1  # the dimension
    channels: frozenset[int] = frozenset()  # sizes that it may have, where they are known beforehand

    def of(self, x: Tensor) -> Groups:
        """Find the dimension of the channels in a tensor, or refuse to guess."""
        if x.ndim < 1 + (self.grain == "channel"):
            raise InputError(
                f"grain={self.grain!r}, spread={self.spread!r} got a tensor of shape {list(x.shape)}; wanted are "
                f"samples along dimension 0{', and channels' if self.grain == 'channel' else ''}. Add the dimension."
            )
        if self.grain != "channel":
            return self
        channel = 1 if x.ndim == 2 else self.channel + x.ndim * (self.channel < 0)
        fits = 0 < channel < x.ndim
        if not fits or (x.ndim > 2 and self.channels and x.shape[channel] not in self.channels):
            sizes = " or ".join(map(str, sorted(self.channels))) if fits else "channels"
            raise InputError(
                f"grain='channel' got a tensor of shape {list(x.shape)}; wanted are {sizes} at dimension "
                f"{self.channel}, and samples at 0. Name the right one: perturb(x, grain='channel', channel_dim=-1), "
                "or robustify(model, grain=('channel', -1), where=...) for these places."
            )
        return Groups(self.grain, self.spread, self.share, channel)

    def strengths(self, seed: Tensor, shape: Sequence[int], eps: Tensor, level: int, start: int | Tensor = 0) -> Tensor:
        """Give each sample's strength, [N, 1, ...], or that of each group with its sign, such as [N, C, 1, ...]."""
        n = shape[0]
        first = start // max(1, math.prod(shape[1:]))
        sample = first + torch.arange(n, device=seed.device)
        eps = eps.expand(n)
        if self.spread == "random":
            eps = eps * ((words(seed, sample + (_SPREAD << 32)) >> 8).to(eps.dtype) * 2**-24)
        if self.share < ALWAYS:
            eps = torch.where(words(seed, sample + (_SHARE << 32)) >> 16 < self.share, eps, 0)
        ones = [1] * (len(shape) - 1)
        eps = eps.reshape(n, *ones)
        if self.grain == "element":
            return eps
        if self.grain == "channel":
            ones[self.channel - 1] = shape[self.channel]
        channels = math.prod(ones)
        group = first * channels + torch.arange(n * channels, device=seed.device)
        if level in {0, ALWAYS}:
            return eps.expand(n, *ones) if level else -eps.expand(n, *ones)
        word = stored(_joined(seed, group // BLOCK * LANES + group % LANES, level))
        plus = (word << (group // LANES % LANES).to(torch.int32)) < 0
        return torch.where(plus.view(n, *ones), eps, -eps)

    def layout(self, shape: Sequence[int], stride: Sequence[int]) -> tuple[int, int, int]:
        """Tell (run, inner, channels): element i in memory is of group i // run * channels + i // inner % channels."""
        run, channels = math.prod(shape[1:]), shape[self.channel] if self.grain == "channel" else 1
        return run, stride[self.channel] if channels > 1 else run, channels


def groups(grain: str, spread: str, share: float, channel: int = 1) -> Groups | None:
    """Check a form of the noise; None is the paper's, with a sign for each element and one strength."""
    for name, value, kind in (("grain", grain, Grain), ("spread", spread, Spread)):
        if value not in get_args(kind):
            raise InputError(f"{name} is {value!r}; it must be one of {', '.join(get_args(kind))}.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise InputError(f"share is {share!r}; it is the share of the samples that get noise, from 0 to 1.")
    if isinstance(channel, bool) or not isinstance(channel, int) or channel == 0:
        raise InputError(f"channel_dim is {channel!r}; it must be a dimension of x, and not 0, where the samples are.")
    found = Groups(grain, spread, level(share), channel)  # type: ignore[arg-type]
    return None if found[:3] == Groups()[:3] else found


def as_groups(grain: Grain | tuple[Grain, int], spread: Spread, share: float) -> Groups | None:
    """Do so for a network, whose channels lie where they do at each place (0) unless the grain tells."""
    kind, channel = grain if isinstance(grain, tuple) and len(grain) == 2 else (grain, 1)
    found = groups(kind, spread, share, channel)
    return found and (found._replace(channel=0) if kind is grain else found)
