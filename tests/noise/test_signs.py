"""The signs' hash against plain Python integers, and against what random words must look like."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import reference
from noise.samples import FORMS
from resolute.noise import signs
from resolute.noise.perturb import perturb
from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from collections.abc import Callable


def shards(model: Callable[..., Any], x: torch.Tensor, parts: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What each of several processes would compute of its part of a batch: outputs and gradients of the input."""
    outputs, gradients = [], []
    for rank, part in enumerate(x.chunk(parts)):
        torch.manual_seed(5)
        own = part.clone().requires_grad_()
        with signs.sharded(rank):
            outputs.append(model(own))
        outputs[-1].square().sum().backward()
        assert own.grad is not None
        gradients.append(own.grad)
    return outputs, gradients


@pytest.mark.parametrize("shape", [(8,), (8, 3), (8, 2, 512), (8, 5, 7, 9)])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_shards_draw_what_the_whole_batch_draws(shape: tuple[int, ...], p: float) -> None:
    x = torch.randn(shape)

    def model(x: torch.Tensor) -> torch.Tensor:
        return perturb(perturb(x, 0.5, p), 0.25, p)

    outputs, gradients = zip(*(map(torch.cat, shards(model, x, parts)) for parts in (1, 2, 4)), strict=True)
    for output, gradient in zip(outputs[1:], gradients[1:], strict=True):
        assert torch.equal(output, outputs[0])
        assert torch.equal(gradient, gradients[0])
    moved = (outputs[0] / x).unique(dim=0)
    assert len(moved) == 8 or math.prod(shape) < 100


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_shards_draw_the_groups_of_the_whole_batch(form: dict[str, Any]) -> None:
    x = torch.randn(8, 3, 5, 7)

    def model(x: torch.Tensor) -> torch.Tensor:
        return perturb(perturb(x, 0.5, 0.3, **form), 0.25, **form)

    outputs, gradients = zip(*(map(torch.cat, shards(model, x, parts)) for parts in (1, 2, 4)), strict=True)
    for output, gradient in zip(outputs[1:], gradients[1:], strict=True):
        assert torch.equal(output, outputs[0])
        assert torch.equal(gradient, gradients[0])
    torch.manual_seed(5)
    if form["grain"] != "element":
        assert torch.equal(model(x), outputs[0])


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.GELU(), nn.SiLU(inplace=True), nn.ELU(0.5)],
    ids=str,
)
def test_so_do_the_places_of_a_network(activation: nn.Module) -> None:
    model = robustify(nn.Sequential(nn.Flatten(), nn.Linear(12, 40), activation, nn.Linear(40, 3)), 0.5, where="both")
    x = torch.randn(6, 3, 4)
    (whole, gradient), (parts, in_parts) = (tuple(map(torch.cat, shards(model, x, parts))) for parts in (1, 3))
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(in_parts, gradient)


@pytest.mark.usefixtures("compiler")
def test_so_does_a_compiled_graph() -> None:
    x, compiled = torch.randn(4, 50), torch.compile(perturb, backend="aot_eager", fullgraph=True)
    whole, gradient = shards(perturb, x, 1)
    for made, wanted in zip(shards(compiled, x, 2), (whole, gradient), strict=True):
        torch.testing.assert_close(torch.cat(made), wanted[0])


def test_ranks_are_nested_and_forgotten_whatever_happens() -> None:
    def fail() -> None:
        with signs.sharded(1):
            assert signs.group_rank() == 1
            raise ZeroDivisionError

    assert signs.group_rank() is None
    with signs.sharded(3):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert signs.group_rank() == 3
    assert signs.group_rank() is None


SIGMA, WORST = 4.0, 5.0
SEEDS = (0, 1, 2, -1, 2**31, 2**32, 2**63 - 1, -(2**63), 0x0123456789ABCDEF)
N = 2**20


def ones(words: torch.Tensor) -> torch.Tensor:
    """Count the ones at each of 32 bits: [N] or [N, M] to [32] or [M, 32]."""
    return torch.stack([(words >> bit & 1).sum(0) for bit in range(32)], dim=-1)


def worst(count: torch.Tensor, n: int) -> float:
    """Give the largest distance of binomial(n, 1/2) counts from n/2, in standard deviations."""
    return float(((count - n / 2).abs() / (n / 4) ** 0.5).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_words_are_those_of_plain_integers(seed: int) -> None:
    counters = [
        0,
        1,
        31,
        32,
        2**31,
        2**32 - 1,
        2**32,
        2**40 + 7,
        2**63 - 1,
        *(random.getrandbits(63) for _ in range(200)),
    ]
    words = signs.words(torch.tensor(seed), torch.tensor(counters))
    assert words.dtype == torch.int64
    assert words.tolist() == [reference.word(seed, c) for c in counters]


@pytest.mark.parametrize("above", [0, 3, 2**31])
def test_words_of_numpy_are_those_of_plain_integers(above: int) -> None:
    low = [0, 1, 2**31, 2**32 - 1, *(random.getrandbits(32) for _ in range(50))]
    words = signs.hashed(np.array(SEEDS)[:, None], np.array(low, dtype=np.uint32), above)
    assert words.dtype == np.uint32
    assert words.tolist() == [[reference.word(seed, (above << 32) + c) for c in low] for seed in SEEDS]


def test_seeds_and_counters_broadcast() -> None:
    words = signs.words(torch.arange(5)[:, None], torch.arange(7))
    assert words.shape == (5, 7)
    assert words[3, 4] == signs.words(torch.tensor(3), torch.tensor(4))


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_are_uniform(seed: int) -> None:
    words = signs.words(torch.tensor(seed), torch.arange(N))
    for shift in (0, 8, 16, 24):
        count = torch.bincount(words >> shift & 255, minlength=256)
        chi_square = float(((count - N / 256) ** 2 / (N / 256)).sum())
        assert abs(chi_square - 255) < SIGMA * (2 * 255) ** 0.5


def test_words_repeat_as_often_as_random_words_do() -> None:
    words = signs.words(torch.arange(4)[:, None], torch.arange(N)).flatten()
    repeats = len(words) - len(words.unique())
    expected = len(words) ** 2 / 2 / 2**32
    assert abs(repeats - expected) < SIGMA * expected**0.5


@pytest.mark.parametrize("seed", [0, 1, -(2**63)])
def test_bits_are_fair_and_independent_of_each_other(seed: int) -> None:
    words = signs.words(torch.tensor(seed), torch.arange(2**17))
    assert worst(ones(words), len(words)) < WORST
    for rotation in range(1, 17):
        rotated = (words << rotation | words >> 32 - rotation) & 0xFFFFFFFF
        assert worst(ones(words ^ rotated), len(words)) < WORST


@pytest.mark.parametrize("lag", [1, 2, 3, 31, 32, 33, 1024, 65536])
def test_neighbouring_words_are_independent(lag: int) -> None:
    words = signs.words(torch.tensor(3), torch.arange(N + lag))
    assert worst(ones(words[lag:] ^ words[:-lag]), N) < WORST


def test_every_bit_of_the_seed_flips_every_bit_of_the_word_half_of_the_time() -> None:
    seeds = signs.fold(0, torch.arange(2**13))[:, None]
    bits = torch.tensor([1 << bit if bit < 63 else -(1 << 63) for bit in range(64)])
    flipped = signs.words(seeds, torch.tensor(5)) ^ signs.words(seeds ^ bits, torch.tensor(5))
    assert worst(ones(flipped), 2**13) < WORST


def test_every_bit_of_the_counter_flips_every_bit_of_the_word_half_of_the_time() -> None:
    counters = signs.fold(1, torch.arange(2**13))[:, None] & 2**63 - 1
    flipped = signs.words(torch.tensor(5), counters) ^ signs.words(torch.tensor(5), counters ^ (1 << torch.arange(63)))
    assert worst(ones(flipped), 2**13) < WORST


def test_a_key_is_a_contract() -> None:
    """Later versions draw the numbers of today: ``printf '0\\x1fnoise\\x1f0.1' | sha256sum``, first eight bytes."""
    assert signs.key(0, "noise", 0.1) == 0xCE83BC450F8B49ED >> 1


def test_keys_tell_seeds_and_parts_apart() -> None:
    asked: list[Any] = [
        (0,),
        (1,),
        (0, "a"),
        (0, "b"),
        (0, "a", "b"),
        (0, "b", "a"),
        (0, "ab"),
        (0, 0.1),
        (0, 0.2),
        (-1,),
        (10,),
    ]
    keys = [signs.key(*parts) for parts in asked]
    assert len(set(keys)) == len(asked)
    assert all(0 <= key < 2**63 for key in keys)


def test_fold_is_two_words_for_each_index() -> None:
    index = torch.tensor([0, 1, 7, 2**40])
    for seed in SEEDS:
        low_high = [(reference.word(seed, 2 * i + 1), reference.word(seed, 2 * i)) for i in index.tolist()]
        assert [s % 2**64 for s in signs.fold(seed, index).tolist()] == [low + (high << 32) for low, high in low_high]


def test_fold_takes_a_seed_for_each_index() -> None:
    seeds = signs.fold(0, torch.arange(6))
    folded = signs.fold(seeds, torch.full((6,), 3))
    assert folded.tolist() == [int(signs.fold(int(s), torch.tensor(3))) for s in seeds]
    assert len(set(folded.tolist())) == 6


def test_folded_seeds_are_distinct_and_their_bits_fair() -> None:
    seeds = torch.cat([signs.fold(run, torch.arange(2**16)) for run in range(4)])
    assert len(seeds.unique()) == len(seeds)
    assert worst(torch.cat([ones(seeds), ones(seeds >> 32)]), len(seeds)) < WORST
