from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resolute.curvature.hessian import cross_entropy
from resolute.curvature.inputs import input_hessians
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
