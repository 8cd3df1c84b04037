from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resolute.curvature import (
    Hessian,
    cross_entropy,
    eigenvalues,
    over_batches,
    over_subsets,
    sketch,
    spectrum,
    trace,
)
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def hessian(network: nn.Module, batches: Batches) -> Hessian:
    return Hessian(network, cross_entropy, batches)


@pytest.fixture(scope="module")
def true(matrix: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(matrix)


def test_the_eigenvalues_of_both_ends_are_those_of_the_dense_hessian(
    hessian: Hessian, matrix: Tensor, true: Tensor
) -> None:
    top = eigenvalues(hessian, 5)
    torch.testing.assert_close(top.values, true[-5:].flip(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(top.vectors @ top.vectors.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    residuals = (matrix @ top.vectors.T - top.vectors.T * top.values).norm(dim=0)
    torch.testing.assert_close(top.errors, residuals, rtol=1e-3, atol=1e-12)
    assert bool((top.errors <= 1e-6 * top.values).all())
    lowest = eigenvalues(hessian, 2, which="smallest")
    assert float(true[0]) < 0
    torch.testing.assert_close(lowest.values, true[:2], rtol=1e-6, atol=0)


def test_a_rough_tolerance_is_honest_about_its_error(hessian: Hessian, true: Tensor) -> None:
    rough = eigenvalues(hessian, 3, tol=0.05)
    fine = eigenvalues(hessian, 3)
    assert rough.products < fine.products
    nearest = (rough.values[:, None] - true).abs().min(1).values
    assert bool((nearest <= rough.errors).all())


def test_with_a_full_basis_the_trace_is_exact(hessian: Hessian, matrix: Tensor) -> None:
    basis = sketch(hessian, 60)
    torch.testing.assert_close(basis @ basis.T, torch.eye(60, dtype=torch.float64), rtol=0, atol=1e-12)
    whole = torch.linalg.qr(torch.randn(len(matrix), len(matrix), dtype=torch.float64)).Q
    hessian_like = trace(hessian, 2, basis=whole)
    assert hessian_like.value == pytest.approx(float(matrix.trace()), rel=1e-6)


def test_the_trace_lies_within_its_standard_error_and_hutchpp_is_sharper(hessian: Hessian, matrix: Tensor) -> None:
    exact = float(matrix.trace())
    plain = [trace(hessian, 20, seed=seed) for seed in range(40, 70)]
    scores = np.array([(t.value - exact) / t.se for t in plain])
    assert abs(scores.mean()) < 3.5 / math.sqrt(30)
    assert 0.6 < scores.std() < 1.6
    sharper = trace(hessian, 20, basis=sketch(hessian, 20, seed=3), seed=4)
    assert sharper.n == 20
    assert sharper.se < plain[0].se / 3
    assert abs(sharper.value - exact) < 4 * sharper.se
    deflated = trace(hessian, 20, basis=eigenvalues(hessian, 10).vectors)
    assert deflated.se < plain[0].se
    assert abs(deflated.value - exact) < 4 * deflated.se


def test_the_quadrature_gives_the_moments_of_its_probes(hessian: Hessian, matrix: Tensor) -> None:
    found = spectrum(hessian, steps=12, probes=3, seed=5)
    start = torch.randn(3, len(matrix), generator=torch.Generator().manual_seed(5)).double()
    start /= start.norm(dim=1, keepdim=True)
    for power in range(1, 8):
        moved = start
        for _ in range(power):
            moved = moved @ matrix
        moments = (found.weights * found.nodes**power).sum(1)
        torch.testing.assert_close(moments, (start * moved).sum(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_the_density_is_the_dense_one(hessian: Hessian, matrix: Tensor, true: Tensor) -> None:
    found = spectrum(hessian, steps=60, probes=30)
    width = 0.05 * float(true[-1])
    grid = torch.linspace(float(true[0]) - 5 * width, float(true[-1]) + 5 * width, 200, dtype=torch.float64)
    drawn = found.density(grid, width).mean(0)
    bells = torch.exp(-0.5 * ((grid - true[:, None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    step = float(grid[1] - grid[0])
    assert float((drawn - bells.mean(0)).abs().sum() * step) < 0.02
    assert float(drawn.sum() * step) == pytest.approx(1, abs=1e-3)
    for power, exact in ((1, matrix.trace()), (2, matrix.square().sum())):
        moment = found.moment(power)
        assert abs(moment.value - float(exact)) < 4 * moment.se


def test_a_spectrum_of_few_eigenvalues_ends_early() -> None:
    model = nn.Linear(6, 1, bias=False).double()
    data = [(torch.diag(torch.tensor([1.0, 1, 1, 2, 2, 2], dtype=torch.float64)), torch.zeros(6))]
    hessian = Hessian(model, lambda model, x, _: model(x).square().sum() / 2, data)
    found = spectrum(hessian, steps=6, probes=2)
    heavy = found.weights > 1e-10
    assert heavy.sum(1).tolist() == [2, 2]
    torch.testing.assert_close(found.nodes[heavy], torch.tensor([1.0, 4, 1, 4], dtype=torch.float64))


def test_the_standard_error_over_batches_is_that_of_new_images(
    network: nn.Module, batches: Batches, dense: Callable[..., Tensor]
) -> None:
    hessian = Hessian(network, cross_entropy, batches[:3])
    v = eigenvalues(hessian).vectors[0]
    quotients = torch.stack([v @ dense(network, [batch]) @ v for batch in batches[:3]])
    found = over_batches(hessian, v)
    assert (found.value, found.se) == pytest.approx((float(quotients.mean()), float(quotients.std() / 3**0.5)))
    assert math.isnan(over_batches(Hessian(network, cross_entropy, batches[:1]), v).se)


def test_parts_of_the_data_have_larger_eigenvalues_on_average(
    network: nn.Module, batches: Batches, dense: Callable[..., Tensor], true: Tensor
) -> None:
    found = over_subsets(Hessian(network, cross_entropy, batches), 2)
    parts = [float(torch.linalg.eigvalsh(dense(network, batches[i::2]))[-1]) for i in range(2)]
    assert found == pytest.approx(parts, rel=1e-6)
    assert (24 * found[0] + 16 * found[1]) / 40 > float(true[-1])


def test_what_cannot_be_found_is_refused(hessian: Hessian) -> None:
    with pytest.raises(InputError, match="k is 0"):
        eigenvalues(hessian, 0)
    with pytest.raises(InputError, match="did not settle"):
        eigenvalues(hessian, 5, which="smallest", restarts=1)
    with pytest.raises(InputError, match="probes is 1"):
        trace(hessian, 1)
