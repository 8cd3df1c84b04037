from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from scipy import stats

from reference import word
from resolute.noise import signs
from resolute.shifts import draws

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = signs.fold(signs.key(0, "test"), torch.arange(400))


def test_words_are_the_counter_s() -> None:
    got = draws.draw_words(SEEDS[:3], 5, stream=2)
    assert got.tolist() == [[word(int(seed), (2 << 32) + i) for i in range(5)] for seed in SEEDS[:3]]


@pytest.mark.parametrize("make", [draws.draw_words, draws.uniform, draws.normal])
@pytest.mark.parametrize("n", [30, 170])
def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch, make: Callable[..., torch.Tensor], n: int) -> None:
    whole = make(SEEDS[:40], n, stream=3)
    monkeypatch.setattr(draws, "AT_ONCE", 70)
    assert torch.equal(make(SEEDS[:40], n, stream=3), whole)


def test_streams_and_places_are_independent() -> None:
    rows = torch.stack([draws.uniform(SEEDS, 400, stream).flatten() for stream in (0, 1, 5)])
    off = torch.corrcoef(rows)[~torch.eye(3, dtype=torch.bool)]
    assert off.abs().max() < 4 / 400


@pytest.mark.parametrize(
    ("drawn", "law"),
    [
        (draws.uniform(SEEDS, 300), stats.uniform),
        (draws.between(-2, 3, SEEDS)[:, None], stats.uniform(-2, 5)),
        (draws.normal(SEEDS, 300), stats.norm),
    ],
)
def test_numbers_follow_their_law(drawn: torch.Tensor, law: stats.rv_continuous) -> None:
    """p = 1e-3 bounds the Kolmogorov-Smirnov distance; the seeds are fixed, so this passes always or never."""
    assert stats.kstest(drawn.double().flatten().numpy(), law.cdf).pvalue > 1e-3
    assert stats.kstest(drawn[:, 0].double().numpy(), law.cdf).pvalue > 1e-3


def test_whole_numbers_are_equally_likely() -> None:
    counts = torch.bincount(draws.below(7, SEEDS, 100).flatten(), minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_normal_images_and_pixels_are_independent() -> None:
    numbers = draws.normal(SEEDS, 400).double()
    for rows in (numbers, numbers.T, numbers.square(), numbers.T.square()):
        off = torch.corrcoef(rows)[~torch.eye(400, dtype=torch.bool)]
        assert off.std().item() == pytest.approx(1 / 20, rel=0.02)
        assert off.abs().max().item() < 6 / 20


def test_normal_is_box_and_muller_s_transform_of_hashed_words() -> None:
    for seed in (0, -5, 2**62 + 17):
        for i, drawn in enumerate(draws.normal(torch.tensor([seed]), 6)[0].tolist()):
            first, second = ((word(seed, position) + 0.5) / 2**32 for position in (i, 6 + i))
            by_hand = math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)
            assert drawn == pytest.approx(by_hand, rel=1e-6, abs=1e-6)
