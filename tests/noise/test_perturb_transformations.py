"""Under PyTorch's transformations: checkpointing, torch.func, torch.compile, autocast."""

from __future__ import annotations

import itertools
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from noise.samples import SIGMA, correlation, drawn
from resolute.noise.perturb import Perturb, perturb

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_draws_the_same_noise_again(reentrant: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 50), Perturb(0.5), nn.Linear(50, 50), Perturb(0.5, 0.3), nn.Linear(50, 1))
    x = torch.randn(9, 6, requires_grad=True)

    def gradients(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(5)
        leaves = [x, *net.parameters()]
        for leaf in leaves:
            leaf.grad = None
        run(x).pow(2).sum().backward()
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    plain = gradients(net)
    again = gradients(lambda x: checkpoint(net, x, use_reentrant=reentrant))
    other = gradients(lambda x: checkpoint(net, x, use_reentrant=reentrant, preserve_rng_state=False))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_vmap_draws_for_each_sample(p: float) -> None:
    x = torch.randn(1, 40, dtype=torch.float64).expand(30, 40)
    for function, wanted in (
        (lambda t: perturb(t, 0.1, p), 0.1 * x.abs()),
        (torch.func.grad(lambda t: perturb(t, 0.1, p).pow(2).sum() / 2), None),
    ):
        out = torch.func.vmap(function, randomness="different")(x)
        assert len(out.unique(dim=0)) == 30
        if wanted is not None:
            torch.testing.assert_close((out - x).abs(), wanted)
        else:
            factor = (out / x).sqrt()  # of grad g^2 / 2 = x (1 + eps l)^2
            torch.testing.assert_close((factor - 1).abs(), torch.full_like(x, 0.1))


def test_functional_call_and_func_grad() -> None:
    net = nn.Sequential(nn.Linear(4, 8), Perturb(0.1), nn.Linear(8, 1))
    weights: dict[str, Tensor] = dict(net.named_parameters())
    x = torch.randn(5, 4)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        return torch.func.functional_call(net, weights, (x,)).sum()  # type: ignore[no-any-return]

    functional = torch.func.grad(loss)(weights)
    loss(weights).backward()
    for name, weight in weights.items():
        assert weight.grad is not None
        torch.testing.assert_close(functional[name], weight.grad)


def check_compiled(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(300, 100, requires_grad=True)
    first, second = function(x), function(x)
    (grad,) = torch.autograd.grad(first.sum(), x)
    assert abs(correlation(drawn(x, first).flatten(), drawn(x, second).flatten())) < SIGMA
    torch.testing.assert_close((first - x).abs(), 0.1 * x.abs())
    torch.testing.assert_close(grad * x, first)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_into_one_graph(backend: str) -> None:
    function = torch.compile(lambda x: perturb(x, 0.1), fullgraph=True, backend=backend)
    check_compiled(function)
    torch.manual_seed(7)
    x = torch.randn(6, 100)
    compiled = function(x)
    torch.manual_seed(7)
    torch.randn(6, 100)
    torch.testing.assert_close(compiled, perturb(x, 0.1))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
@pytest.mark.usefixtures("compiler")
def test_compiles_to_machine_code_without_writing_out_the_hash_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor walks through some 7,000 operations; 85,000 where each step of the hash doubles the one before."""
    run_node, walked = torch.fx.Interpreter.run_node, itertools.count()

    def counted(self: torch.fx.Interpreter, node: torch.fx.Node) -> Any:
        next(walked)
        return run_node(self, node)

    monkeypatch.setattr(torch.fx.Interpreter, "run_node", counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of itself
        check_compiled(torch.compile(lambda x: perturb(x, 0.1), fullgraph=True))
    assert 1000 < next(walked) < 15_000


def test_autocast_keeps_the_dtype_that_it_chose() -> None:
    net = nn.Sequential(nn.Linear(8, 16), Perturb(0.1), nn.Linear(16, 2))
    seen: list[Tensor] = []
    net[1].register_forward_hook(lambda _, inputs, out: seen.extend((*inputs, out)))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(4, 8)).sum().backward()
    x, g = (t.detach().double() for t in seen)
    assert {t.dtype for t in seen} == {torch.bfloat16}
    torch.testing.assert_close((g - x).abs(), 0.1 * x.abs(), rtol=0.05, atol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
