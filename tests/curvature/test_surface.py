from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from resolute.curvature.hessian import Hessian, cross_entropy, eigenvalues, loss_along
from resolute.errors import InputError
from resolute.noise.robustify import robustify

Batches = list[tuple[Tensor, Tensor]]


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
