"""The gradient against autograd and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noise.samples import DTYPES, LAYOUTS, drawn
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import robustify


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_gradient_is_that_of_the_formula_with_l_held_constant(p: float) -> None:
    x = torch.randn(3, 500, dtype=torch.float64, requires_grad=True)
    g = perturb(x, 0.3, p)
    weight = torch.randn_like(x)
    (actual,) = torch.autograd.grad((g * weight).sum(), x)
    noise = drawn(x, g) * x.detach().sign()
    (wanted,) = torch.autograd.grad(((x + 0.3 * x * noise) * weight).sum(), x)
    torch.testing.assert_close(actual, wanted, rtol=1e-15, atol=0)


def test_gradient_is_that_of_finite_differences_and_so_is_its_own() -> None:
    def fixed(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return perturb(x, 0.3)

    x = (torch.rand(4, 5, dtype=torch.float64) + 0.1) * torch.tensor([1.0, -1, 1, -1, 1])
    x.requires_grad_()
    assert torch.autograd.gradcheck(fixed, (x,))
    assert torch.autograd.gradgradcheck(fixed, (x,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivative_is_one_at_zero(dtype: torch.dtype) -> None:
    x = torch.zeros(100, dtype=dtype, requires_grad=True)
    perturb(x, 0.3).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert (x.grad == 1).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_backward_meets_the_signs_of_forward(layout: str) -> None:
    x = LAYOUTS[layout]().requires_grad_()
    g = perturb(x, 0.25, 0.4)
    (grad,) = torch.autograd.grad(g.sum(), x)
    torch.testing.assert_close(grad * x, g)


@pytest.mark.parametrize("layout", ["channels last", "permuted"])
@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.GELU])
def test_backward_meets_the_signs_of_forward_though_what_is_kept_comes_back_contiguous(
    act: type[nn.Module], layout: str
) -> None:
    """As it does from ``torch.autograd.graph.save_on_cpu`` with pinned memory."""
    x = LAYOUTS[layout]().requires_grad_()
    model = robustify(nn.Sequential(act(), nn.Linear(x.shape[-1], 3)), 0.3)
    model.insert(1, Perturb(0.3))
    gradients: list[Tensor] = []
    for pack in (lambda t: t, lambda t: t.contiguous()):
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = model(x).square().sum()
        gradients += torch.autograd.grad(out, x)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_only_x_and_eight_bytes_are_kept_for_backward(p: float) -> None:
    kept: list[int] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t.nbytes)
        return t

    x = torch.randn(64, 100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        perturb(x, 0.1, p)
    assert sorted(kept) == [8, x.nbytes]
