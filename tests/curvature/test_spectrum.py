from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resolute.curvature.hessian import (
    Hessian,
    cross_entropy,
    eigenvalues,
    over_batches,
    over_subsets,
    spectrum,
    trace,
)
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

Batches = list[tuple[Tensor, Tensor]]


SIZE = 150


def bent(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = (y * model(x)[:, 0].square()).mean() / 2
    return value


@pytest.fixture(scope="module")
def matrix() -> Tensor:
    """A symmetric matrix with a few large eigenvalues, many small ones and negative ones."""
    generator = torch.Generator().manual_seed(3)
    rotation = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=generator)).Q
    values = torch.cat([torch.tensor([10.0, 7, 5, -2, -1]), torch.linspace(-0.3, 0.6, SIZE - 5)]).double()
    made: Tensor = rotation.T @ torch.diag(values) @ rotation
    return made


@pytest.fixture
def hessian(matrix: Tensor) -> Hessian:
    """The quadratic form whose Hessian is the matrix, as three micro-batches."""
    values, vectors = torch.linalg.eigh(matrix)
    x, y = (vectors * (SIZE * values.abs()).sqrt()).T.contiguous(), values.sign()
    order = torch.arange(SIZE).view(-1, 3).T.reshape(-1)
    batches = list(zip(x[order].split(60), y[order].split(60), strict=True))
    return Hessian(nn.Linear(SIZE, 1, bias=False).double(), bent, batches)


def test_the_eigenvalues_of_a_network_are_those_of_its_dense_hessian(
    network: nn.Module, batches: Batches, dense: Callable[..., Tensor]
) -> None:
    data = [(x[:6], y[:6]) for x, y in batches[:1]]
    hessian, true_matrix = Hessian(network, cross_entropy, data), dense(network, data)
    true = torch.linalg.eigvalsh(true_matrix)
    top = eigenvalues(hessian, 3)
    torch.testing.assert_close(top.values, true[-3:].flip(0), rtol=1e-6, atol=0)
    lowest = eigenvalues(hessian, which="smallest")
    assert float(true[0]) < 0
    torch.testing.assert_close(lowest.values, true[:1], rtol=1e-6, atol=0)
    whole = trace(hessian, 2, basis=torch.eye(len(true), dtype=torch.float64))
    assert whole.value == pytest.approx(float(true_matrix.trace()), rel=1e-6)


def test_eigenvalues_come_with_their_vectors_and_errors(hessian: Hessian, matrix: Tensor) -> None:
    true = torch.linalg.eigvalsh(matrix)
    top = eigenvalues(hessian, 5)
    torch.testing.assert_close(top.values, true[-5:].flip(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(top.vectors @ top.vectors.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    residuals = (matrix @ top.vectors.T - top.vectors.T * top.values).norm(dim=0)
    torch.testing.assert_close(top.errors, residuals, rtol=1e-2, atol=1e-12)
    assert bool((top.errors <= 1e-8).all())
    lowest = eigenvalues(hessian, 2, which="smallest")
    torch.testing.assert_close(lowest.values, torch.tensor([-2.0, -1], dtype=torch.float64))


def test_a_rough_tolerance_is_honest_about_its_error(hessian: Hessian, matrix: Tensor) -> None:
    rough, fine = eigenvalues(hessian, 6, tol=0.1), eigenvalues(hessian, 6)
    assert rough.products < fine.products
    assert float(rough.errors.max()) > 1e-6
    nearest = (rough.values[:, None] - torch.linalg.eigvalsh(matrix)).abs().min(1).values
    assert bool((nearest <= rough.errors + 1e-12).all())


def test_with_a_full_basis_the_trace_is_exact(hessian: Hessian, matrix: Tensor) -> None:
    found = trace(hessian, 2, basis=torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64)).Q)
    assert found.value == pytest.approx(float(matrix.trace()), rel=1e-9)
    assert found.se < 1e-9


def test_the_trace_lies_within_its_standard_error_and_hutchpp_is_sharper(hessian: Hessian, matrix: Tensor) -> None:
    exact = float(matrix.trace())
    plain = [trace(hessian, 20, seed=seed) for seed in range(40, 70)]
    scores = np.array([(t.value - exact) / t.se for t in plain])
    assert abs(scores.mean()) < 3.5 / math.sqrt(30)
    assert 0.6 < scores.std() < 1.6
    sharper = trace(hessian, 20, basis=eigenvalues(hessian, 3).vectors, seed=4)
    assert sharper.n == 20
    assert sharper.se < plain[0].se / 2
    assert abs(sharper.value - exact) < 4 * sharper.se


def test_the_quadrature_gives_the_moments_of_its_probes(hessian: Hessian, matrix: Tensor) -> None:
    found = spectrum(hessian, steps=12, probes=3, seed=5)
    start = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(5)).double()
    start /= start.norm(dim=1, keepdim=True)
    for power in range(1, 8):
        moved = start
        for _ in range(power):
            moved = moved @ matrix
        moments = (found.weights * found.nodes**power).sum(1)
        torch.testing.assert_close(moments, (start * moved).sum(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_the_density_is_the_dense_one(hessian: Hessian, matrix: Tensor) -> None:
    true = torch.linalg.eigvalsh(matrix)
    found = spectrum(hessian, steps=40, probes=40)
    width = 0.4
    grid = torch.linspace(-4, 12, 200, dtype=torch.float64)
    drawn = found.density(grid, width).mean(0)
    bells = torch.exp(-0.5 * ((grid - true[:, None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    step = float(grid[1] - grid[0])
    assert float((drawn - bells.mean(0)).abs().sum() * step) < 0.05
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


def test_the_standard_error_over_batches_is_that_of_new_images(hessian: Hessian) -> None:
    batches = [(x[:50], y[:50]) for x, y in hessian.data][:2] + [(x[50:], y[50:]) for x, y in hessian.data][:2]
    hessian = Hessian(hessian.model, bent, batches[:2])
    v = eigenvalues(hessian).vectors[0]
    quotients = torch.stack([(y * (x @ v).square()).mean() for x, y in batches[:2]])
    found = over_batches(hessian, v)
    assert (found.value, found.se) == pytest.approx((float(quotients.mean()), float(quotients.std() / 2**0.5)))
    assert math.isnan(over_batches(Hessian(hessian.model, bent, batches[:1]), v).se)


def test_parts_of_the_data_have_larger_eigenvalues_on_average(hessian: Hessian) -> None:
    batches = list(hessian.data)
    found = over_subsets(hessian, 2)
    parts = []
    for part in (batches[0::2], batches[1::2]):
        x, y = (torch.cat(columns) for columns in zip(*part, strict=True))
        parts.append(float(torch.linalg.eigvalsh((x.T * y) @ x / len(y))[-1]))
    assert found == pytest.approx(parts, rel=1e-6)
    assert sum(found) / 2 > 10


def test_what_cannot_be_found_is_refused(hessian: Hessian) -> None:
    with pytest.raises(InputError, match="k is 0"):
        eigenvalues(hessian, 0)
    with pytest.raises(InputError, match="did not settle"):
        eigenvalues(hessian, 5, which="smallest", restarts=1, tol=1e-12)
    with pytest.raises(InputError, match="probes is 1"):
        trace(hessian, 1)
