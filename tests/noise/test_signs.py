from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from resolute.noise import signs
from resolute.noise.perturb import perturb
from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from collections.abc import Callable


def shards(model: Callable[..., Any], x: torch.Tensor, parts: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What each of several processes would compute of its part of a batch: outputs and gradients of the input."""
    outputs, gradients = [], []
    for rank, part in enumerate(x.chunk(parts)):
        torch.manual_seed(5)
        own = part.clone().requires_grad_()
        with signs.sharded(rank):
            outputs.append(model(own))
        outputs[-1].square().sum().backward()
        assert own.grad is not None
        gradients.append(own.grad)
    return outputs, gradients


@pytest.mark.parametrize("shape", [(8,), (8, 3), (8, 2, 512), (8, 5, 7, 9)])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_shards_draw_what_the_whole_batch_draws(shape: tuple[int, ...], p: float) -> None:
    x = torch.randn(shape)

    def model(x: torch.Tensor) -> torch.Tensor:
        return perturb(perturb(x, 0.5, p), 0.25, p)

    outputs, gradients = zip(*(map(torch.cat, shards(model, x, parts)) for parts in (1, 2, 4)), strict=True)
    for output, gradient in zip(outputs[1:], gradients[1:], strict=True):
        assert torch.equal(output, outputs[0])
        assert torch.equal(gradient, gradients[0])
    moved = (outputs[0] / x).unique(dim=0)
    assert len(moved) == 8 or math.prod(shape) < 100


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.GELU(), nn.SiLU(inplace=True), nn.ELU(0.5)],
    ids=str,
)
def test_so_do_the_places_of_a_network(activation: nn.Module) -> None:
    model = robustify(nn.Sequential(nn.Flatten(), nn.Linear(12, 40), activation, nn.Linear(40, 3)), 0.5, where="both")
    x = torch.randn(6, 3, 4)
    (whole, gradient), (parts, in_parts) = (tuple(map(torch.cat, shards(model, x, parts))) for parts in (1, 3))
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(in_parts, gradient)


@pytest.mark.usefixtures("compiler")
def test_so_does_a_compiled_graph() -> None:
    x, compiled = torch.randn(4, 50), torch.compile(perturb, backend="aot_eager", fullgraph=True)
    whole, gradient = shards(perturb, x, 1)
    for made, wanted in zip(shards(compiled, x, 2), (whole, gradient), strict=True):
        torch.testing.assert_close(torch.cat(made), wanted[0])


def test_ranks_are_nested_and_forgotten_whatever_happens() -> None:
    def fail() -> None:
        with signs.sharded(1):
            assert signs.group_rank() == 1
            raise ZeroDivisionError

    assert signs.group_rank() is None
    with signs.sharded(3):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert signs.group_rank() == 3
    assert signs.group_rank() is None
