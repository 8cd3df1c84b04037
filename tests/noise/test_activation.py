"""Perturbed activations against the noise put after the plain ones: values, gradients, bytes kept, in-place writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import timm
import torch
from torch import Tensor, nn

from networks import NETWORKS
from resolute.noise import kernels
from resolute.noise.kernels import cpu
from resolute.noise.perturb import perturb
from resolute.noise.robustify import robustify, set_eps

if TYPE_CHECKING:
    from collections.abc import Callable

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "leaky relu in place": lambda: nn.LeakyReLU(0.2, inplace=True),
    "leaky relu that turns": lambda: nn.LeakyReLU(-0.2),
    "relu6": nn.ReLU6,
    "relu6 in place": lambda: nn.ReLU6(inplace=True),
    "elu": lambda: nn.ELU(0.7),
    "elu by its result": lambda: nn.ELU(0.7, inplace=True),
    "celu": lambda: nn.CELU(0.7),
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU(approximate="tanh"),
    "gelu of timm": timm.layers.GELU,
    "gelu by tanh of timm": timm.layers.GELUTanh,
    "silu": nn.SiLU,
    "silu in place": lambda: nn.SiLU(inplace=True),
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardswish in place": lambda: nn.Hardswish(inplace=True),
    "prelu": nn.PReLU,
    "softplus": nn.Softplus,
}
IN_PLACE = [name for name in ACTIVATIONS if name.endswith("in place")]
KEEPS_MORE = {"leaky relu that turns", "elu by its result", "prelu", "softplus"}

has_build = pytest.mark.skipif(cpu.compiled() is None, reason="no C++ compiler")


def robust(name: str, eps: float = 0.3, p: float = 0.4) -> nn.Module:
    return robustify(ACTIVATIONS[name](), eps, p, where=lambda name, module: True)


def in_two_steps(name: str) -> Callable[[Tensor], Tensor]:
    plain = ACTIVATIONS[name]()
    return lambda x: perturb(plain(x), 0.3, 0.4)


def seeded(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return function(x * 1)


def kept(function: Callable[[Tensor], Tensor], x: Tensor) -> dict[int, int]:
    """Give the bytes that backward keeps, by the address of their storage; x * 1 alone keeps nothing."""
    storages: dict[int, int] = {}
    tensors: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        tensors.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = function(x * 1)
        nn.functional.linear(out, torch.ones(1, out.shape[-1], requires_grad=True))
    return storages


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "sliced"])
def test_is_the_noise_after_the_activation(name: str, layout: str) -> None:
    x = 4 * torch.randn(3, 4, 9, 11)
    x = {"contiguous": x, "channels last": x.to(memory_format=torch.channels_last), "sliced": x[:, 1:, ::2]}[layout]
    x.requires_grad_()
    actual, wanted = seeded(robust(name), x), seeded(in_two_steps(name), x)
    torch.testing.assert_close(actual, wanted)
    weight = torch.randn_like(wanted)
    (actual_grad,) = torch.autograd.grad((actual * weight).sum(), x)
    (wanted_grad,) = torch.autograd.grad((wanted * weight).sum(), x)
    torch.testing.assert_close(actual_grad, wanted_grad)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_those_of_finite_differences_twice(name: str) -> None:
    act = robust(name).double()
    x = torch.tensor([-5.0, -2.0, -1.0, -0.3, 0.4, 1.3, 2.5, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: seeded(act, x), (x,))
    assert torch.autograd.gradgradcheck(lambda x: seeded(act, x), (x,))


@has_build
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in KEEPS_MORE])
def test_keeps_the_bytes_that_the_activation_keeps_and_a_seed(name: str) -> None:
    x = torch.randn(64, 100, requires_grad=True)
    base, noisy = kept(ACTIVATIONS[name](), x), kept(robust(name), x)
    assert sum(noisy.values()) == sum(base.values()) + 8


@pytest.mark.parametrize("name", IN_PLACE)
def test_writes_in_place_where_the_activation_does(name: str) -> None:
    x = torch.randn(50, 40)
    assert robust(name)(x) is x
    torch.manual_seed(0)
    x, y = torch.randn(50, 40).t(), torch.randn(50, 40)
    assert robust(name)(x).data_ptr() == x.data_ptr()
    view = y[::2, 3:]
    out = robust(name)(view)
    assert torch.equal(out, y[::2, 3:])


def test_in_place_refuses_a_leaf_as_the_activation_does() -> None:
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        robust("relu in place")(torch.randn(3, requires_grad=True))


@has_build
@pytest.mark.parametrize("name", ["relu", "gelu", "relu in place", "leaky relu"])
def test_is_the_same_without_the_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(40, 50, requires_grad=True)
    results = []
    for choose in (kernels.choose, lambda *_: None):
        monkeypatch.setattr(kernels, "choose", choose)
        out = seeded(robust(name), x)
        results.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "gelu", "leaky relu"])
def test_vmap_and_functional_gradients(name: str) -> None:
    act, x = robust(name, p=0.5), torch.rand(1, 40).expand(20, 40) + 0.1
    out = torch.func.vmap(torch.func.grad(lambda row: act(row).sum()), randomness="different")(x)
    assert len(out.unique(dim=0)) == 20
    plain = torch.func.grad(lambda row: ACTIVATIONS[name]()(row).sum())(x)
    torch.testing.assert_close((out / plain - 1).abs(), torch.full_like(out, 0.3))


def test_eps_of_zero_is_the_activation_and_draws_nothing() -> None:
    act, x = robust("relu"), torch.randn(20)
    set_eps(act, 0)
    state = torch.get_rng_state()
    assert torch.equal(act(x), torch.relu(x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", ["relu", "relu in place", "gelu", "leaky relu", "hardswish in place"])
def test_compiles_into_one_graph_that_takes_any_eps(name: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    linear, act = nn.Linear(50, 50), robust(name)
    eager = nn.Sequential(linear, act)
    net = torch.compile(eager, backend=counter, fullgraph=True)
    x = torch.randn(40, 50, requires_grad=True)
    for eps in (0.3, 0.1, 0.2, 0.3):
        set_eps(act, eps)
        torch.manual_seed(3)
        out = net(x)
        torch.manual_seed(3)
        wanted = eager(x)
        torch.testing.assert_close(out, wanted)
        grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (out, wanted)]
        torch.testing.assert_close(*grads)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_gradients_with_and_without_the_kernel(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = NETWORKS[name]
    torch.manual_seed(0)
    model, x = robustify(case.build().train(), 0.3), case.images()
    results = []
    for choose in (kernels.choose, lambda *_: None):
        monkeypatch.setattr(kernels, "choose", choose)
        model.zero_grad()
        torch.manual_seed(1)
        model(x).square().sum().backward()
        results.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)
