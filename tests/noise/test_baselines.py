from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from resolute.noise import baselines
from resolute.noise.perturb import perturb

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

NOISES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "r": perturb,
    "gaussian": baselines.gaussian,
    "additive": baselines.additive,
    "dropout": baselines.dropout,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gaussian", "additive"])
def test_normal_numbers_lie_as_the_activations_do(name: str, dtype: torch.dtype) -> None:
    """torch's own, drawn like a tensor in channels_last, come one by one."""
    last = torch.ones(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last)
    torch.manual_seed(1)
    ours = NOISES[name](last, 0.5)
    torch.manual_seed(1)
    usual = NOISES[name](torch.ones(2, 4, 5, 3, dtype=dtype), 0.5)
    assert ours.stride() == last.stride()
    assert torch.equal(ours.permute(0, 2, 3, 1), usual)


@pytest.mark.parametrize("eps", [0.1, 0.5])
@pytest.mark.parametrize("name", NOISES)
def test_all_noises_have_the_same_power(name: str, eps: float) -> None:
    """Means and second moments over 40,000 draws for each of seven values, within five standard errors."""
    values, n = torch.tensor([-3.0, -1.0, -0.2, 0.0, 0.5, 1.0, 2.0], dtype=torch.float64), 40_000
    moved = NOISES[name](values.repeat(n, 1), eps) - values
    power = (eps * values).square()
    if name == "additive":
        power = power.mean().expand(7)
    error = power.sqrt() / n**0.5
    assert bool((moved.mean(0).abs() <= 5 * error).all())
    squared = moved.square()
    assert bool(((squared.mean(0) - power).abs() <= 5 * squared.std(0) / n**0.5 + 1e-12).all())


def test_noise_is_drawn_for_each_element() -> None:
    for noise in NOISES.values():
        moved = noise(torch.ones(100, 100), 0.3) - 1
        correlation = torch.corrcoef(moved)
        off = correlation[~torch.eye(100, dtype=torch.bool)]
        assert off.abs().max().item() < 0.6
        assert off.mean().item() == pytest.approx(0, abs=0.01)


def test_the_gradient_of_additive_noise_is_that_of_the_identity() -> None:
    x = torch.randn(5, 6, requires_grad=True)
    baselines.additive(x, 0.5).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(5, 6))


def test_eps_0_is_no_noise() -> None:
    x = torch.randn(50)
    before = torch.get_rng_state()
    for noise in NOISES.values():
        assert noise(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), before)
