"""The signs against plain integers, and against what chance allows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import reference
from noise.samples import LAYOUTS, SIGMA, correlation, drawn
from resolute.noise import signs
from resolute.noise.perturb import perturb

WORST = 5.0
"""As SIGMA, for the worst of hundreds."""


def fresh_signs(n: int, p: float = 0.5) -> Tensor:
    x = torch.ones(n)
    return drawn(x, perturb(x, 0.1, p))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("p", [0.5, 0.3, 0.0, 1.0])
def test_signs_are_those_of_plain_integers_in_memory_order(layout: str, p: float) -> None:
    x = LAYOUTS[layout]()
    wanted = reference.signs(x, reference.next_seed(), p)
    g = perturb(x, 0.1, p)
    assert torch.equal(drawn(x, g), wanted)
    assert g.shape == x.shape
    assert g.dtype == x.dtype
    wanted_strides = torch.relu(x).stride()
    assert all(a == b for a, b, size in zip(g.stride(), wanted_strides, x.shape, strict=True) if size > 1)


def test_the_same_memory_gets_the_same_signs_whatever_its_shape() -> None:
    rows = torch.randn(2, 7, 5, 3)
    channels_last = rows.permute(0, 3, 1, 2)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    results = []
    for x in (rows, channels_last, rows.view(-1), rows.view(10, 21)):
        torch.manual_seed(1)
        results.append(perturb(x, 0.1))
    assert torch.equal(results[1], results[0].permute(0, 3, 1, 2))
    assert torch.equal(results[2], results[0].view(-1))
    assert torch.equal(results[3], results[0].view(10, 21))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_plus_comes_as_often_as_p_says(p: float) -> None:
    n = 10**7
    plus = sum(int((fresh_signs(n // 10, p) > 0).sum()) for _ in range(10))
    assert abs(plus - n * p) <= SIGMA * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("lag", [1, 2, 31, 32, 33, 1023, 1024, 1025, 32768])
def test_neighbouring_elements_are_independent(lag: int, p: float) -> None:
    s = fresh_signs(2**20, p)
    assert abs(correlation(s[lag:], s[:-lag], p)) < SIGMA


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_calls_and_ranks_are_independent(p: float) -> None:
    rows = [fresh_signs(2**18, p) for _ in range(4)]
    for rank in range(4):
        torch.manual_seed(1000 + rank)
        rows.append(fresh_signs(2**18, p))
    for i, a in enumerate(rows):
        for b in rows[:i]:
            assert abs(correlation(a, b, p)) < SIGMA


def test_bits_of_a_word_and_words_of_a_block_are_independent() -> None:
    s = fresh_signs(2**22).view(-1, 32, 32)  # block, bit, word
    for rows in (s.movedim(1, 0).reshape(32, -1), s.movedim(2, 0).reshape(32, -1)):
        z = rows @ rows.T / rows.shape[1] ** 0.5
        assert float(z.fill_diagonal_(0).abs().max()) < WORST


def test_runs_of_eight_signs_are_uniform() -> None:
    s = (fresh_signs(2**22) > 0).view(-1, 8)
    count = torch.bincount((s * 2 ** torch.arange(8)).sum(1), minlength=256)
    expected = len(s) / 256
    chi_square = float(((count - expected) ** 2 / expected).sum())
    assert abs(chi_square - 255) < SIGMA * (2 * 255) ** 0.5


def test_manual_seed_repeats_the_noise_and_each_call_draws_afresh() -> None:
    x = torch.randn(100)
    torch.manual_seed(3)
    first, second = perturb(x), perturb(x)
    torch.manual_seed(3)
    assert torch.equal(perturb(x), first)
    assert torch.equal(perturb(x), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_a_call_takes_as_much_from_the_generator_whatever_the_size(p: float) -> None:
    after = []
    for n in (1, 5000):
        torch.manual_seed(0)
        perturb(torch.ones(n), 0.1, p)
        after.append(torch.get_rng_state())
    assert torch.equal(after[0], after[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_signs_are_the_same_on_every_device(p: float) -> None:
    seed, level = torch.tensor(-(2**62) - 12345), signs.level(p)
    assert torch.equal(signs.draw(seed.cuda(), 5000, level).cpu(), signs.draw(seed, 5000, level))
    x = torch.randn(100, device="cuda")
    assert perturb(x, 0.1, p).device == x.device
