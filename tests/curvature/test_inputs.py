"""Hessians and Jacobians with respect to the images against dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resolute.curvature.hessian import cross_entropy
from resolute.curvature.inputs import input_hessians, jacobian_norms
from resolute.errors import InputError
from resolute.noise.robustify import robustify

Batches = list[tuple[Tensor, Tensor]]


def dense(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    def one(image: Tensor, label: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(image[None]), label[None])

    rows: Tensor = torch.func.vmap(torch.func.hessian(one))(x, y)
    return rows.view(len(x), x[0].numel(), -1).detach()


def test_each_image_has_the_eigenvalues_of_its_dense_hessian(network: nn.Module, batches: Batches) -> None:
    batches = [(x[:6], y[:6]) for x, y in batches[:2]]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    true = torch.linalg.eigvalsh(dense(network, x, y))
    found = input_hessians(network, cross_entropy, batches, steps=64, probes=40)
    torch.testing.assert_close(found.top, true[:, -1], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(found.lowest, true[:, 0], rtol=1e-6, atol=1e-12)
    bias = (found.trace - true.sum(1)).numpy()
    assert abs(bias.mean()) < 4 * bias.std() / len(bias) ** 0.5


def test_rectifiers_need_as_many_steps_as_classes(batches: Batches) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10)).double()
    x, y = batches[0]
    true = torch.linalg.eigvalsh(dense(model, x, y))
    found = input_hessians(model, cross_entropy, [(x, y)], steps=10)
    torch.testing.assert_close(found.top, true[:, -1], rtol=1e-9, atol=0)
    assert bool((found.lowest.abs() < 1e-9 * found.top).all())


def test_noise_is_a_mean_over_draws_that_are_frozen(batches: Batches) -> None:
    model = robustify(nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10)), 0.5).double()
    quiet = input_hessians(model, cross_entropy, batches)
    loud = [input_hessians(model, cross_entropy, batches, draws=draws) for draws in (1, 1, 4)]
    assert torch.equal(loud[0].top, loud[1].top)
    assert not torch.equal(loud[0].top, loud[2].top)
    assert not torch.equal(quiet.top, loud[0].top)


def test_a_loss_without_curvature_has_none(batches: Batches) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    found = input_hessians(model, lambda model, x, _: model(x).mean(), batches)
    assert found.top.tolist() == found.lowest.tolist() == found.trace.tolist() == [0] * 40


def test_no_step_is_refused(network: nn.Module, batches: Batches) -> None:
    with pytest.raises(InputError, match="steps is 0"):
        input_hessians(network, cross_entropy, batches, steps=0)


def test_by_the_pixels_it_is_the_dense_jacobian(network: nn.Module, batches: Batches) -> None:
    x = torch.cat([x for x, _ in batches])
    dense = torch.func.vmap(torch.func.jacrev(lambda image: network(image[None])[0]))(x)
    torch.testing.assert_close(jacobian_norms(network, batches), dense.flatten(1).norm(dim=1), rtol=1e-12, atol=0)


def test_by_the_parameters_it_is_the_dense_jacobian(network: nn.Module, batches: Batches) -> None:
    x = batches[0][0][:4]
    parameters = dict(network.named_parameters())
    dense = torch.func.jacrev(lambda theta: torch.func.functional_call(network, theta, (x,)))(parameters)
    squares = sum(part.detach().square().reshape(4, -1).sum(1) for part in dense.values())
    found = jacobian_norms(network, [(x, batches[0][1][:4])], wrt="parameters")
    torch.testing.assert_close(found, torch.as_tensor(squares).sqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("wrt", ["input", "parameters"])
def test_random_vectors_are_right_in_the_mean_of_squares(network: nn.Module, batches: Batches, wrt: str) -> None:
    batches = batches[3:] if wrt == "parameters" else batches
    exact = jacobian_norms(network, batches, wrt=wrt).square()  # type: ignore[arg-type]
    rough = jacobian_norms(network, batches, wrt=wrt, probes=40).square()  # type: ignore[arg-type]
    ratios = rough / exact
    assert abs(float(ratios.mean()) - 1) < 4 * float(ratios.std()) / len(ratios) ** 0.5
    assert 0.01 < float(ratios.std()) < 0.6


def test_many_outputs_are_measured_by_random_vectors() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 100, bias=False))
    data = [(torch.rand(50, 1, 2, 2), torch.zeros(50, dtype=torch.int64))]
    found = jacobian_norms(model, data)
    assert len(set(found.tolist())) == 50
    weight = model[1].weight.detach()  # type: ignore[operator]
    assert float(found.square().mean() / weight.double().square().sum()) == pytest.approx(1, abs=0.1)


def test_noise_is_averaged_over_its_draws() -> None:
    model = robustify(nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False), nn.ReLU()), 0.5).double()
    data = [(torch.rand(6, 1, 2, 2), torch.zeros(6, dtype=torch.int64))]
    quiet = jacobian_norms(model, data)
    loud = jacobian_norms(model, data, draws=100)
    alive = quiet > 0
    ratios = (loud[alive] / quiet[alive]).square()
    torch.testing.assert_close(ratios, torch.full_like(ratios, 1.25), rtol=0.3, atol=0)  # E(1 + eps l)^2 = 1 + eps^2
    assert not torch.equal(loud, quiet)


def test_no_vector_is_refused(network: nn.Module, batches: Batches) -> None:
    with pytest.raises(InputError, match="probes is 0"):
        jacobian_norms(network, batches, probes=0)
