"""Products, eigenvalues, trace, density and loss surface against the dense Hessian."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from resolute import models
from resolute.curvature.hessian import (
    Hessian,
    cross_entropy,
    eigenvalues,
    loss_along,
    over_batches,
    over_subsets,
    quadrature,
    spectrum,
    trace,
    tridiagonal,
)
from resolute.errors import InputError
from resolute.models import loss
from resolute.noise.robustify import is_robust, robustify

if TYPE_CHECKING:
    from collections.abc import Callable

Batches = list[tuple[Tensor, Tensor]]


def worst(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def test_products_are_those_of_the_dense_hessian(network: nn.Module, batches: Batches, matrix: Tensor) -> None:
    v = torch.randn(3, len(matrix), dtype=torch.float64)
    hessian = Hessian(network, cross_entropy, batches)
    assert hessian.size == len(matrix)
    assert worst(hessian(v), v @ matrix) < 1e-12
    assert worst(hessian(v[1]), matrix @ v[1]) < 1e-12


def test_the_micro_batch_size_does_not_matter(network: nn.Module, batches: Batches) -> None:
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    v = torch.randn(Hessian(network, cross_entropy, batches).size, dtype=torch.float64)
    products = [
        Hessian(network, cross_entropy, list(zip(x.split(size), y.split(size), strict=True)))(v) for size in (1, 7, 40)
    ]
    assert worst(products[0], products[2]) < 1e-13
    assert worst(products[1], products[2]) < 1e-13


def test_float32_is_as_near_as_float32_can_be(network: nn.Module, batches: Batches, matrix: Tensor) -> None:
    v = torch.randn(len(matrix), dtype=torch.float64)
    found = Hessian(copy.deepcopy(network).float(), cross_entropy, batches)(v.float())
    assert found.dtype == torch.float32
    assert worst(found.double(), matrix @ v) < 1e-5


@pytest.mark.filterwarnings("ignore::FutureWarning")  # it imports what uses torch.jit.script
def test_products_agree_with_curvlinops(network: nn.Module, batches: Batches) -> None:
    import curvlinops

    parameters = [p for p in network.parameters() if p.requires_grad]
    theirs = curvlinops.HessianLinearOperator(network, nn.CrossEntropyLoss(), parameters, batches)
    v = torch.randn(Hessian(network, cross_entropy, batches).size, dtype=torch.float64)
    assert worst(Hessian(network, cross_entropy, batches)(v), theirs @ v) < 1e-12


def test_quotients_of_the_micro_batches_average_to_that_of_all(
    network: nn.Module, batches: Batches, dense: Callable[..., Tensor], matrix: Tensor
) -> None:
    v = torch.randn(len(matrix), dtype=torch.float64)
    values, counts = Hessian(network, cross_entropy, batches).quotients(v)
    assert counts.tolist() == [12, 12, 12, 4]
    assert float(values[3]) == pytest.approx(float(v @ dense(network, batches[3:]) @ v / (v @ v)), rel=1e-10)
    assert float((values * counts).sum() / 40) == pytest.approx(float(v @ matrix @ v / (v @ v)), rel=1e-12)


def noisy_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return robustify(nn.Sequential(*layers).double(), 0.4)


def test_the_noise_is_the_mean_of_its_draws_and_leaves_the_generator_alone() -> None:
    model = noisy_network().train()
    data = [(torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1]))]
    v = torch.randn(Hessian(model, cross_entropy, data).size, dtype=torch.float64)
    state = torch.get_rng_state()
    quiet = Hessian(model, cross_entropy, data)(v)
    loud = Hessian(model, cross_entropy, data, draws=3)
    assert torch.equal(loud(v), loud(v))
    w = torch.randn_like(v)
    assert float(w @ loud(v)) == pytest.approx(float(v @ loud(w)), rel=1e-10)
    assert worst(loud(v), quiet) > 1e-3
    assert worst(Hessian(model, cross_entropy, data, draws=3, seed=1)(v), loud(v)) > 1e-3
    many = [Hessian(model, cross_entropy, data, draws=1, seed=seed)(v) for seed in range(2)]
    assert worst(many[0], many[1]) > 1e-3
    torch.set_rng_state(state)
    Hessian(model, cross_entropy, data, draws=2)(v)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_nothing_but_the_noise_is_in_training_mode() -> None:
    model = noisy_network()
    seen: dict[str, bool] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, _, __, name=name: seen.update({name: module.training}))
    data = [(torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.zeros(5, dtype=torch.int64))]
    mean = model.get_buffer("2.running_mean").clone()
    hessian = Hessian(model, cross_entropy, data, draws=1)
    hessian(torch.zeros(hessian.size, dtype=torch.float64))
    assert [name for name, training in seen.items() if training] == ["3"]
    assert torch.equal(model.get_buffer("2.running_mean"), mean)


def test_a_loss_that_is_linear_in_a_parameter_has_a_zero_block_there() -> None:
    model = nn.Linear(3, 1).double()
    data = [(torch.randn(4, 3, dtype=torch.float64), torch.zeros(4))]
    assert (
        Hessian(model, lambda model, x, _: model(x).mean(), data)(torch.ones(4, dtype=torch.float64)).tolist()
        == [0] * 4
    )


def test_the_loss_is_that_of_training() -> None:
    x, y = torch.rand(3, 1, 8, 8), torch.tensor([1, 2, 3])
    for name in ("lenet", "capsnet"):
        shape = (1, 28, 28) if name == "capsnet" else (1, 8, 8)
        model = models.build(name, classes=10, shape=shape).eval()
        images = torch.rand(3, *shape) if name == "capsnet" else x
        assert torch.equal(cross_entropy(model, images, y), loss.loss(model, images, y, model(images)))


def test_attention_can_be_differentiated_twice() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 12)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.project(x.flatten(2)).chunk(3, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v).mean(1)

    model = Attention()
    hessian = Hessian(model, cross_entropy, [(torch.rand(2, 3, 2, 2), torch.tensor([0, 1]))])
    v = torch.randn(hessian.size)
    before = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert float(hessian(v).norm()) > 0
    assert torch.equal(before, torch.cat([p.detach().reshape(-1) for p in model.parameters()]))


def test_batches_are_counted_for_progress(network: nn.Module, batches: Batches) -> None:
    told: list[int] = []
    hessian = Hessian(network, cross_entropy, batches, on_batch=told.append)
    hessian(torch.zeros(2, hessian.size, dtype=torch.float64))
    assert told == [24, 24, 24, 8]


def test_what_cannot_be_measured_is_refused(network: nn.Module, batches: Batches) -> None:
    v = torch.zeros(Hessian(network, cross_entropy, batches).size, dtype=torch.float64)
    assert not is_robust(network)
    with pytest.raises(InputError, match="carries none"):
        Hessian(network, cross_entropy, batches, draws=1)(v)
    with pytest.raises(InputError, match="only once"):
        Hessian(network, cross_entropy, iter(batches))(v)
    with pytest.raises(InputError, match="no batches"):
        Hessian(network, cross_entropy, [])(v)
    with pytest.raises(InputError, match="vectors of 3"):
        Hessian(network, cross_entropy, batches)(v[:3])
    with pytest.raises(InputError, match="draws is -1"):
        Hessian(network, cross_entropy, batches, draws=-1)
    with pytest.raises(InputError, match="no parameter"):
        Hessian(nn.ReLU(), cross_entropy, batches)


def test_each_row_has_a_matrix_of_its_own() -> None:
    a = torch.randn(4, 9, 9, dtype=torch.float64)
    a = a + a.mT
    nodes, weights = quadrature(
        *tridiagonal(lambda v: torch.einsum("rij,rj->ri", a, v), torch.randn(4, 9, dtype=torch.float64), 9, keep=True)
    )
    torch.testing.assert_close(nodes, torch.linalg.eigvalsh(a), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))


def test_one_step_is_the_quotient() -> None:
    a = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    nodes, weights = quadrature(*tridiagonal(lambda v: v @ a, torch.ones(1, 2, dtype=torch.float64), 1, keep=False))
    torch.testing.assert_close((nodes.item(), weights.item()), (2.0, 1.0))


# Eigenvalues, trace and density


SIZE = 150


def bent(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    value: Tensor = (y * model(x)[:, 0].square()).mean() / 2
    return value


@pytest.fixture(scope="module")
def symmetric() -> Tensor:
    """A symmetric matrix with a few large eigenvalues, many small ones and negative ones."""
    generator = torch.Generator().manual_seed(3)
    rotation = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=generator)).Q
    values = torch.cat([torch.tensor([10.0, 7, 5, -2, -1]), torch.linspace(-0.3, 0.6, SIZE - 5)]).double()
    made: Tensor = rotation.T @ torch.diag(values) @ rotation
    return made


@pytest.fixture
def hessian(symmetric: Tensor) -> Hessian:
    """The quadratic form whose Hessian is the matrix, as three micro-batches."""
    values, vectors = torch.linalg.eigh(symmetric)
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


def test_eigenvalues_come_with_their_vectors_and_errors(hessian: Hessian, symmetric: Tensor) -> None:
    true = torch.linalg.eigvalsh(symmetric)
    top = eigenvalues(hessian, 5)
    torch.testing.assert_close(top.values, true[-5:].flip(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(top.vectors @ top.vectors.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)
    residuals = (symmetric @ top.vectors.T - top.vectors.T * top.values).norm(dim=0)
    torch.testing.assert_close(top.errors, residuals, rtol=1e-2, atol=1e-12)
    assert bool((top.errors <= 1e-8).all())
    lowest = eigenvalues(hessian, 2, which="smallest")
    torch.testing.assert_close(lowest.values, torch.tensor([-2.0, -1], dtype=torch.float64))


def test_a_rough_tolerance_is_honest_about_its_error(hessian: Hessian, symmetric: Tensor) -> None:
    rough, fine = eigenvalues(hessian, 6, tol=0.1), eigenvalues(hessian, 6)
    assert rough.products < fine.products
    assert float(rough.errors.max()) > 1e-6
    nearest = (rough.values[:, None] - torch.linalg.eigvalsh(symmetric)).abs().min(1).values
    assert bool((nearest <= rough.errors + 1e-12).all())


def test_with_a_full_basis_the_trace_is_exact(hessian: Hessian, symmetric: Tensor) -> None:
    found = trace(hessian, 2, basis=torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64)).Q)
    assert found.value == pytest.approx(float(symmetric.trace()), rel=1e-9)
    assert found.se < 1e-9


def test_the_trace_lies_within_its_standard_error_and_hutchpp_is_sharper(hessian: Hessian, symmetric: Tensor) -> None:
    exact = float(symmetric.trace())
    plain = [trace(hessian, 20, seed=seed) for seed in range(40, 70)]
    scores = np.array([(t.value - exact) / t.se for t in plain])
    assert abs(scores.mean()) < 3.5 / math.sqrt(30)
    assert 0.6 < scores.std() < 1.6
    sharper = trace(hessian, 20, basis=eigenvalues(hessian, 3).vectors, seed=4)
    assert sharper.n == 20
    assert sharper.se < plain[0].se / 2
    assert abs(sharper.value - exact) < 4 * sharper.se


def test_the_quadrature_gives_the_moments_of_its_probes(hessian: Hessian, symmetric: Tensor) -> None:
    found = spectrum(hessian, steps=12, probes=3, seed=5)
    start = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(5)).double()
    start /= start.norm(dim=1, keepdim=True)
    for power in range(1, 8):
        moved = start
        for _ in range(power):
            moved = moved @ symmetric
        moments = (found.weights * found.nodes**power).sum(1)
        torch.testing.assert_close(moments, (start * moved).sum(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_the_density_is_the_dense_one(hessian: Hessian, symmetric: Tensor) -> None:
    true = torch.linalg.eigvalsh(symmetric)
    found = spectrum(hessian, steps=40, probes=40)
    width = 0.4
    grid = torch.linspace(-4, 12, 200, dtype=torch.float64)
    drawn = found.density(grid, width).mean(0)
    bells = torch.exp(-0.5 * ((grid - true[:, None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    step = float(grid[1] - grid[0])
    assert float((drawn - bells.mean(0)).abs().sum() * step) < 0.05
    assert float(drawn.sum() * step) == pytest.approx(1, abs=1e-3)
    for power, exact in ((1, symmetric.trace()), (2, symmetric.square().sum())):
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


# The loss along eigenvectors


def test_the_loss_is_that_of_the_moved_network_which_comes_back(network: nn.Module, batches: Batches) -> None:
    hessian = Hessian(network, cross_entropy, batches)
    before = [p.detach().clone() for p in network.parameters()]
    directions = torch.randn(2, hessian.size, dtype=torch.float64)
    radii = torch.tensor([-0.1, 0.0, 0.2], dtype=torch.float64)
    values = loss_along(hessian, directions, radii)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    parts = (-0.1 * directions[0] + 0.2 * directions[1]).split([p.numel() for p in before])
    names = [name for name, _ in network.named_parameters()]
    moved = {name: p + part.view_as(p) for name, p, part in zip(names, before, parts, strict=True)}
    logits = torch.func.functional_call(network, moved, (x,))
    assert float(values[0, 2]) == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-12)
    assert torch.equal(loss_along(hessian, directions[:1], radii), values[:, 1])


def test_it_bends_as_the_eigenvalue_says(network: nn.Module, batches: Batches) -> None:
    hessian = Hessian(network, cross_entropy, batches)
    top = eigenvalues(hessian)
    step = 1e-5  # a larger one crosses kinks of the rectifiers
    low, middle, high = loss_along(hessian, top.vectors, torch.tensor([-step, 0, step], dtype=torch.float64))
    assert float((low - 2 * middle + high) / step**2) == pytest.approx(float(top.values[0]), rel=1e-4)


def test_noise_sounds_if_it_is_asked_for() -> None:
    model = robustify(nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), 0.5)
    data = [(torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64))]
    radii = torch.zeros(1)
    direction = torch.zeros(1, 67)
    quiet, loud = (loss_along(Hessian(model, cross_entropy, data, draws=d), direction, radii) for d in (0, 2))
    assert float(quiet) != float(loud)


def test_three_directions_are_refused(network: nn.Module, batches: Batches) -> None:
    hessian = Hessian(network, cross_entropy, batches)
    with pytest.raises(InputError, match="3 directions"):
        loss_along(hessian, torch.zeros(3, hessian.size, dtype=torch.float64), torch.zeros(1))
