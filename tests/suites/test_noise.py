from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from cases import tiny_info
from reference import word
from resolute import counter, suites
from resolute.suites.noise import STRENGTHS, normal

SEEDS = counter.fold(counter.key(0, "test"), torch.arange(400))


def test_numbers_are_standard_normal() -> None:
    """p = 1e-3 bounds the Kolmogorov-Smirnov distance; the seeds are fixed, so this passes always or never."""
    draws = normal(SEEDS, 500).double()
    assert stats.kstest(draws.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(draws[:, 0].numpy(), stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(draws[0].numpy(), stats.norm.cdf).pvalue > 1e-3
    assert draws.abs().max() > 4


def test_images_and_pixels_are_independent() -> None:
    draws = normal(SEEDS, 400).double()
    for rows in (draws, draws.T, draws.square(), draws.T.square()):
        off = torch.corrcoef(rows)[~torch.eye(400, dtype=torch.bool)]
        assert off.std().item() == pytest.approx(1 / 20, rel=0.02)
        assert off.abs().max().item() < 6 / 20


def test_it_is_box_and_muller_s_transform_of_hashed_words() -> None:
    for seed in (0, -5, 2**62 + 17):
        for i, drawn in enumerate(normal(torch.tensor([seed]), 6)[0].tolist()):
            first, second = ((word(seed, position) + 0.5) / 2**32 for position in (i, 6 + i))
            by_hand = math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)
            assert drawn == pytest.approx(by_hand, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_an_image_meets_the_same_noise_in_any_batch(batch_size: int) -> None:
    x = torch.rand(400, 1, 6, 6)
    for shift in suites.find(["noise"], tiny_info()):

        def moved(part: torch.Tensor, seeds: torch.Tensor, shift: suites.Shift = shift) -> torch.Tensor:
            return shift.apply(nn.Identity(), part, torch.zeros(len(part), dtype=torch.long), seeds)

        parts = [moved(*pair) for pair in zip(x.split(batch_size), SEEDS.split(batch_size), strict=True)]
        assert torch.equal(torch.cat(parts), moved(x, SEEDS))
        backwards = torch.arange(399, -1, -1)
        assert torch.equal(moved(x[backwards], SEEDS[backwards])[backwards], torch.cat(parts))


def test_the_severity_is_the_standard_deviation() -> None:
    x, y = torch.full((400, 3, 8, 8), 0.5), torch.zeros(400, dtype=torch.long)
    shifts = suites.find(["noise"], tiny_info())
    assert [shift.severity for shift in shifts] == list(STRENGTHS)
    for shift in shifts:
        moved = shift.apply(nn.Identity(), x, y, SEEDS) - x
        inside = moved.abs() < 0.5
        expected = stats.norm(scale=shift.severity)
        assert inside.double().mean().item() == pytest.approx(1 - 2 * expected.cdf(-0.5), abs=0.005)
        assert moved[inside].std().item() == pytest.approx(
            stats.truncnorm(-0.5 / shift.severity, 0.5 / shift.severity, scale=shift.severity).std(), rel=0.01
        )
