from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resolute.curvature.inputs import jacobian_norms
from resolute.errors import InputError
from resolute.noise.robustify import robustify

Batches = list[tuple[Tensor, Tensor]]


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
