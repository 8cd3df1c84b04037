"""torch.func: calls with other weights, and gradients for each sample with noise of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from frameworks.byhand import EPS, SmoothNet, batches, net
from resolute.noise.robustify import robustify

State = dict[str, Tensor]


def loss(weights: State, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(functional_call(model, weights, (x,)), y)


def weights(model: nn.Module) -> State:
    return {name: p.detach() for name, p in model.named_parameters()}


def test_functional_call_is_the_call() -> None:
    model, other = net(SmoothNet), net(SmoothNet)
    for p in other.parameters():
        p.data.mul_(0.5)
    (x, _), *_ = batches()
    torch.manual_seed(2)
    wanted = other(x)
    torch.manual_seed(2)
    out = functional_call(model, weights(other), (x,))
    torch.testing.assert_close(out, wanted)
    assert not torch.equal(out, functional_call(model, weights(other), (x,)))


def test_functional_gradients_are_those_of_backward() -> None:
    model = net(SmoothNet)
    (x, y), *_ = batches()
    torch.manual_seed(2)
    cross_entropy(model(x), y).backward()
    wanted = {name: p.grad for name, p in model.named_parameters()}
    torch.manual_seed(2)
    torch.testing.assert_close(grad(loss)(weights(model), model, x, y), wanted)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(grad(loss)(weights(model), model, x, y), wanted)


def test_forward_mode_is_reverse_mode() -> None:
    model = net(SmoothNet).double()
    (x, y), *_ = batches()
    tangents = {name: torch.randn_like(p) for name, p in weights(model).items()}

    def seeded(weights: State) -> Tensor:
        torch.manual_seed(2)
        return loss(weights, model, x.double(), y)

    _, actual = torch.func.jvp(seeded, (weights(model),), (tangents,))
    wanted = sum((slope * tangents[name]).sum() for name, slope in grad(seeded)(weights(model)).items())
    torch.testing.assert_close(actual, wanted)


class Linear(nn.Module):
    """One noise only, at the input: what a sample met can be read from its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(108, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.view(-1, 108))  # type: ignore[no-any-return]


def test_each_sample_has_noise_of_its_own_in_per_sample_gradients() -> None:
    """The gradient of the weight is (softmax - target) times the perturbed image."""
    model = robustify(Linear(), EPS, where="input")
    x = batches()[0][0][:1].expand(8, 3, 6, 6)
    y = torch.zeros(8, 1, dtype=torch.int64)
    per_sample = vmap(grad(loss), in_dims=(None, None, 0, 0), randomness="different")(weights(model), model, x, y)
    weight, bias = per_sample["linear.weight"], per_sample["linear.bias"]
    met = weight[:, 0] / bias[:, :1]
    moved = (met / x.reshape(8, 108) - 1).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, EPS), rtol=1e-3, atol=1e-3)
    assert len((met > x.reshape(8, 108)).unique(dim=0)) == 8


def test_per_sample_gradients_are_those_of_backward_on_each_sample() -> None:
    """With `randomness="same"` every sample meets the noise that a call with one sample draws."""
    model = net(SmoothNet)
    (x, y), *_ = batches()
    torch.manual_seed(2)
    each = vmap(grad(loss), in_dims=(None, None, 0, 0), randomness="same")
    per_sample = each(weights(model), model, x[:, None], y[:, None])
    for i in range(len(x)):
        model.zero_grad()
        torch.manual_seed(2)
        cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(per_sample[name][i], p.grad)


def test_randomness_must_be_chosen() -> None:
    model = net(SmoothNet)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(model)(batches()[0][0])


def test_an_ensemble_in_one_call() -> None:
    models = [net(SmoothNet) for _ in range(3)]
    params, buffers = stack_module_state(models)
    (x, _), *_ = batches()
    run = vmap(lambda p, b: functional_call(models[0], (p, b), (x,)), randomness="different")
    assert len(run(params, buffers).unique(dim=0)) == 3
    models[0].eval()
    torch.testing.assert_close(run(params, buffers), models[0](x).expand(3, -1, -1))
