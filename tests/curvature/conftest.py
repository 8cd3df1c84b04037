from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """About 2,000 parameters, convolution and rectifier among them, in float64."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 30), nn.Tanh(), nn.Linear(30, 10)
    ).double()
    assert 1900 < sum(p.numel() for p in model.parameters()) < 2100
    return model


@pytest.fixture(scope="session")
def batches() -> Batches:
    """Micro-batches of unequal size."""
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(40, 1, 8, 8, dtype=torch.float64, generator=generator)
    y = torch.randint(0, 10, (40,), generator=generator)
    return list(zip(x.split(12), y.split(12), strict=True))


@pytest.fixture(scope="session")
def dense() -> Callable[[nn.Module, Batches], Tensor]:
    """The Hessian of the mean cross-entropy written out by reverse differentiation, twice, of one function."""

    def written_out(model: nn.Module, batches: Batches) -> Tensor:
        x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
        names, parameters = zip(*model.named_parameters(), strict=True)
        sizes = [p.numel() for p in parameters]

        def loss(theta: Tensor) -> Tensor:
            parts = [part.view_as(p) for part, p in zip(theta.split(sizes), parameters, strict=True)]
            logits = torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (x,))
            return nn.functional.cross_entropy(logits, y)

        theta = torch.cat([p.detach().reshape(-1) for p in parameters])
        rows: Tensor = torch.func.jacrev(torch.func.grad(loss), chunk_size=256)(theta)
        return rows

    return written_out


@pytest.fixture(scope="session")
def matrix(network: nn.Module, batches: Batches, dense: Callable[[nn.Module, Batches], Tensor]) -> Tensor:
    return dense(network, batches)
