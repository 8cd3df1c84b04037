"""Section 3 of the paper, claim by claim: what docs/theory.md derives is held against dense autodiff in float64."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resolute.errors import InputError
from resolute.noise.perturb import perturb
from resolute.noise.signs import Grain

EPS = (0.1, 0.5, 0.9)


def drawn(x: Tensor, eps: float, p: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """g(x), and the l(x) that was drawn for it."""
    torch.manual_seed(seed)
    g = perturb(x, eps, p)
    return g, torch.where(x == 0, 0, ((g - x) / (eps * x)).detach().round())


def smooth() -> nn.Sequential:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


@pytest.mark.parametrize("eps", EPS)
def test_the_jacobian_is_that_of_f_at_g_times_one_plus_eps_l(eps: float) -> None:
    f, x = smooth(), torch.randn(5, dtype=torch.float64)
    x[2] = 0
    g, l = drawn(x, eps)  # noqa: E741 (the paper's letter)
    assert set(l.tolist()) == {-1, 0, 1}

    def composed(x: Tensor) -> Tensor:
        return f(drawn(x, eps)[0])  # type: ignore[no-any-return]

    measured = torch.autograd.functional.jacobian(composed, x)
    at_g = torch.autograd.functional.jacobian(f, g)
    torch.testing.assert_close(measured, at_g * (1 + eps * l), rtol=1e-12, atol=0)
    as_printed = torch.autograd.functional.jacobian(f, x) * (1 + eps * x.sign())
    assert float((measured - as_printed).norm() / measured.norm()) > 0.02


def slope_of_f(x: Tensor) -> Tensor:
    """f' of a polynomial f with extreme points at -2, -0.5, 1 and 3."""
    return (x + 2) * (x + 0.5) * (x - 1) * (x - 3)


@pytest.mark.parametrize("s", [1, -1])
@pytest.mark.parametrize("eps", EPS)
def test_below_one_no_extreme_point_is_added_or_lost_but_each_moves(eps: float, s: int) -> None:
    x = torch.linspace(-50, 50, 2_000_000, dtype=torch.float64)
    factor = 1 + eps * s * x.sign()
    assert float(factor.min()) == pytest.approx(1 - eps)
    slope = slope_of_f(x * factor) * factor
    at = x[:-1][slope.sign().diff() != 0]
    where = [root / (1 + eps * s * math.copysign(1, root)) for root in (-2, -0.5, 1, 3)]
    assert at.tolist() == pytest.approx(where, abs=1e-4)


def test_at_one_the_jacobian_vanishes_on_a_half_line_and_the_package_refuses() -> None:
    x = torch.linspace(0.1, 5, 50, dtype=torch.float64, requires_grad=True)
    g = x + 1.0 * -1 * x.abs()  # eps = 1, s = -1
    (slope,) = torch.autograd.grad((g**4 + 3 * g).sum(), x)
    assert slope.tolist() == [0] * 50
    with pytest.raises(InputError, match="below 1"):
        perturb(x, 1.0)


def bowl(x: Tensor) -> Tensor:
    """Stationary at STAR, with a Hessian that is neither diagonal nor definite there."""
    d = x - STAR
    return d @ BEND @ d / 2 + (d**3).sum()


STAR = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
BEND = torch.tensor([[1.0, 2.0, 0.3], [2.0, -1.0, 0.5], [0.3, 0.5, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize("eps", EPS)
def test_at_an_extreme_point_the_factor_is_one_plus_eps_l_on_both_sides(eps: float) -> None:
    for seed in range(8):
        _, l = drawn(STAR, eps, seed=seed)  # noqa: E741
        x = STAR / (1 + eps * l)

        def composed(x: Tensor, seed: int = seed) -> Tensor:
            return bowl(drawn(x, eps, seed=seed)[0])

        assert float(torch.autograd.functional.jacobian(composed, x).abs().max()) < 1e-12
        measured = torch.autograd.functional.hessian(composed, x)
        d = 1 + eps * l
        torch.testing.assert_close(measured, d[:, None] * BEND * d, rtol=1e-12, atol=1e-12)
        inertia = [torch.linalg.eigvalsh(h).sign().tolist() for h in (measured, BEND)]
        assert inertia[0] == inertia[1]  # Sylvester: minima, maxima and saddles stay what they are
        assert bool((measured.diagonal().abs() < BEND.diagonal().abs()).equal(l < 0))


def factor_mean(p: float, eps: float, sign: int) -> float:
    return 1 + 2 * (2 * p - 1) * eps * sign + eps**2


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("eps", EPS)
def test_the_mean_factor_for_any_p(eps: float, p: float, sign: int) -> None:
    exact = p * (1 + eps * sign) ** 2 + (1 - p) * (1 - eps * sign) ** 2
    assert factor_mean(p, eps, sign) == pytest.approx(exact)
    assert exact == pytest.approx((1 + eps * (2 * p - 1) * sign) ** 2 + 4 * p * (1 - p) * eps**2)
    assert (exact >= 1 - 1e-12) == ((2 * p - 1) * sign >= -eps / 2 - 1e-12)
    n = 40_000
    _, l = drawn(torch.full((n,), float(sign), dtype=torch.float64), eps, p)  # noqa: E741
    sampled = (1 + eps * l).square()
    assert abs(float(sampled.mean()) - exact) <= 4 * float(sampled.std()) / n**0.5 + 2**-15


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_over_inputs_of_either_sign_the_cross_term_cancels_and_after_a_rectifier_it_does_not(p: float) -> None:
    eps = 0.3
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    share = weights / weights.sum()
    mean = sum(w * factor_mean(p, eps, int(np.sign(x))) for x, w in zip(nodes, share, strict=True))
    assert mean == pytest.approx(1 + eps**2)
    rectified = 2 * sum(w * factor_mean(p, eps, 1) for x, w in zip(nodes, share, strict=True) if x > 0)
    assert rectified == pytest.approx(1 + eps**2 + 2 * (2 * p - 1) * eps)


def mean_hessian(bend: Tensor, eps: float, p: float = 0.5) -> Tensor:
    """E(D H D), D = diag(1 + eps l), at an x with positive entries; all assignments of signs, weighted."""
    total = torch.zeros_like(bend)
    for signs in itertools.product((1.0, -1.0), repeat=len(bend)):
        d = 1 + eps * torch.tensor(signs, dtype=torch.float64)
        plus = sum(s > 0 for s in signs)
        total += p**plus * (1 - p) ** (len(bend) - plus) * d[:, None] * bend * d
    return total


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_in_several_dimensions_only_the_diagonal_gets_the_variance(p: float) -> None:
    eps, shift = 0.4, 0.4 * (2 * p - 1)
    derived = (1 + shift) ** 2 * BEND + 4 * p * (1 - p) * eps**2 * BEND.diagonal().diag()
    torch.testing.assert_close(mean_hessian(BEND, eps, p), derived)
    n = 20_000
    torch.manual_seed(0)
    x = torch.ones(n, 3, dtype=torch.float64)
    d = perturb(x, eps, p)
    sampled = d[:, :, None] * BEND * d[:, None, :]
    error = (sampled.mean(0) - derived).abs()
    assert bool((error <= 4.5 * sampled.std(0) / n**0.5 + 1e-4).all())


def test_the_mean_leaves_an_off_diagonal_saddle_alone_and_can_turn_one_into_a_minimum() -> None:
    crossing = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(mean_hessian(crossing, 0.5), crossing)
    shallow = torch.tensor([[1.0, 1.005], [1.005, 1.0]], dtype=torch.float64)
    assert float(torch.linalg.eigvalsh(shallow)[0]) == pytest.approx(-0.005)
    assert float(torch.linalg.eigvalsh(mean_hessian(shallow, 0.1))[0]) == pytest.approx(0.005)
    straight = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    assert float(torch.linalg.eigvalsh(mean_hessian(straight, 0.1))[0]) == pytest.approx(-1.01)


@pytest.mark.parametrize("s", [1, -1])
def test_the_second_derivative_of_g_is_two_eps_s_delta(s: int) -> None:
    eps = 0.3
    x = np.linspace(-12, 12, 240_001)
    bell = np.exp(-((x - 0.4) ** 2) / 2)
    second = ((x - 0.4) ** 2 - 1) * bell
    measured = np.trapezoid((x + eps * s * np.abs(x)) * second, x)
    assert measured == pytest.approx(2 * eps * s * math.exp(-0.08), rel=1e-6)


def test_at_zero_there_is_no_kick() -> None:
    x = torch.zeros(100, dtype=torch.float64)
    assert torch.equal(perturb(x, 0.9), x)


@pytest.mark.parametrize("mean", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("p", [0.5, 0.8])
def test_the_variance_that_batch_norm_learns(mean: float, p: float) -> None:
    """Var g = Var(x + eps (2p - 1) |x|) + 4p (1 - p) eps^2 E x^2: the running statistics are those of this."""
    x = torch.randn(400_000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + mean
    norm, eps = nn.BatchNorm1d(1, momentum=1.0).double(), 0.3
    torch.manual_seed(2)
    norm(perturb(x, eps, p))
    shifted = x + eps * (2 * p - 1) * x.abs()
    wanted = shifted.var() + 4 * p * (1 - p) * eps**2 * x.square().mean()
    learnt_mean, learnt = norm.get_buffer("running_mean").item(), norm.get_buffer("running_var").item()
    assert learnt_mean == pytest.approx(shifted.mean().item(), abs=4 * eps * (1 + mean) / 400_000**0.5)
    assert learnt == pytest.approx(wanted.item(), rel=0.02)
    if p == 0.5:  # the part that no centring removes grows with the square of the mean
        ratio = learnt / x.var().item()
        assert ratio == pytest.approx(1 + eps**2 * (1 + mean**2), rel=0.02)


def test_a_layer_between_the_noise_and_batch_norm_adds_the_squares_of_its_weights() -> None:
    """Var w.g = w' Cov(x) w + eps^2 sum w_i^2 E x_i^2: inputs share their signal, and each has noise of its own."""
    torch.manual_seed(3)
    common = torch.randn(200_000, 1, dtype=torch.float64)
    x = (common + 0.1 * torch.randn(200_000, 8, dtype=torch.float64) + 1).relu()
    w = torch.rand(8, 1, dtype=torch.float64)
    measured = (perturb(x, 0.5) @ w).var()
    wanted = w.T @ torch.cov(x.T) @ w + 0.25 * (w.square().flatten() * x.square().mean(0)).sum()
    assert measured.item() == pytest.approx(wanted.item(), rel=0.02)


@pytest.mark.parametrize("grain", get_args(Grain))
def test_what_each_grain_leaves_behind_convolution_and_pooling(grain: Grain) -> None:
    """Behind a circular convolution and the mean over M places: eps^2 sum W_c^2 E x_c^2 / M for element signs; eps^2
    sum (W_c E |x_c|)^2 for channel signs; eps^2 (sum W_c E |x_c|)^2 for one sign a sample. W_c is the kernel's sum."""
    torch.manual_seed(5)
    places, eps = 12 * 12, 0.2
    x = torch.randn(1, 6, 12, 12, dtype=torch.float64).relu()
    conv = nn.Conv2d(6, 1, 3, padding=1, padding_mode="circular", bias=False).double()
    with torch.no_grad():
        many = x.expand(20_000, -1, -1, -1)
        pooled = torch.cat([conv(perturb(part, eps, grain=grain)).mean((2, 3)) for part in many.split(500)])
    sums, mean = conv.weight.detach().sum((2, 3)).flatten(), x.mean((2, 3)).flatten()
    wanted = {
        "element": (sums.square() * x.square().mean((2, 3)).flatten()).sum() / places,
        "channel": (sums * mean).square().sum(),
        "sample": (sums * mean).sum().square(),
    }
    assert pooled.var().item() == pytest.approx(eps**2 * wanted[grain].item(), rel=0.05)
    if grain != "element":
        assert eps**2 * wanted[grain] > 10 * eps**2 * wanted["element"]
