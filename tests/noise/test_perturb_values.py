"""The equation against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import reference
from noise.samples import DTYPES, SIGMA, drawn
from resolute.noise.perturb import perturb

HALVES = (torch.float16, torch.bfloat16)
EPS = (0.01, 0.1, 0.5, 0.9, 0.99)
FLOAT_ROUNDING = Fraction(3, 2)  # of the factor 1 + eps * l and of its product with x: within a neighbour of the truth
HALF_ROUNDING = 0.501  # once, from float32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", EPS)
def test_moves_x_by_eps_times_its_size_to_the_last_bit(dtype: torch.dtype, eps: float) -> None:
    x = (torch.randn(2000, dtype=torch.float64) * torch.exp2(torch.empty(2000).uniform_(-12, 12))).to(dtype)
    g = perturb(x, eps)
    assert g.dtype == dtype
    bound = HALF_ROUNDING if dtype in HALVES else FLOAT_ROUNDING
    for before, after, s in zip(x.tolist(), g.tolist(), drawn(x, g).tolist(), strict=True):
        truth = reference.perturbed(before, eps, int(s))
        error = abs(Fraction(after) - truth) / reference.last_place(max(abs(before), abs(after)), dtype)
        assert error <= bound


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_precision_number_is_rounded_once(dtype: torch.dtype) -> None:
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    g = perturb(x, 0.1)
    assert torch.equal(g.isnan(), x.isnan())
    assert torch.equal(g[x.isinf()], x[x.isinf()])
    normal = x.isfinite() & (x.abs() >= torch.finfo(dtype).tiny * 2) & (x.abs() < torch.finfo(dtype).max * 0.9)
    x, g = x[normal], g[normal]
    up, down = x.double() * 1.1, x.double() * 0.9
    wanted = torch.where(g.abs() > x.abs(), up, down)
    place = torch.exp2(g.double().abs().log2().floor()) * torch.finfo(dtype).eps
    assert float(((g.double() - wanted).abs() / place).max()) <= HALF_ROUNDING


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_zero_and_infinity_stay_and_signs_are_kept(dtype: torch.dtype, p: float) -> None:
    info = torch.finfo(dtype)
    edge = [0.0, -0.0, float("inf"), -float("inf"), info.tiny, -info.tiny, info.smallest_normal / 2, info.max / 2]
    x = torch.tensor(edge, dtype=dtype).repeat(50)
    g = perturb(x, 0.9, p)
    stays = (x == 0) | x.isinf()
    assert torch.equal(g[stays], x[stays])
    assert torch.equal(g.signbit(), x.signbit())
    assert not g.isnan().any()
    assert perturb(torch.tensor([float("nan")], dtype=dtype)).isnan().all()


def test_subnormal_numbers_move_as_far_as_their_spacing_allows() -> None:
    x = torch.arange(1, 2000, dtype=torch.float64) * 5e-324
    g = perturb(x, 0.25)
    assert float(((g - x).abs() / 5e-324 - 0.25 * x / 5e-324).abs().max()) <= 0.5


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_mean_and_variance_are_those_of_the_equation(p: float) -> None:
    n, eps, x = 10**6, 0.3, -2.0
    moves = perturb(torch.full((n,), x, dtype=torch.float64), eps, p) - x
    mean, variance = eps * (2 * p - 1) * abs(x), 4 * p * (1 - p) * eps**2 * x**2
    assert abs(float(moves.mean()) - mean) < SIGMA * (variance / n) ** 0.5
    assert float(moves.var()) == pytest.approx(variance, rel=0.01)


def test_without_eps_x_itself_comes_back_and_nothing_is_drawn() -> None:
    x = torch.randn(5)
    state = torch.get_rng_state()
    assert perturb(x, 0) is x
    assert torch.equal(torch.get_rng_state(), state)
