from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch

from cases import tiny_images, tiny_network
from resolute.config import TrainConfig
from resolute.training.loop import make_optimizer, train

if TYPE_CHECKING:
    from torch import Tensor, nn

PLAIN = TrainConfig(epochs=2, batch_size=16, lr=0.02, weight_decay=0.01, schedule="step", device="cpu")
SGD = dataclasses.replace(PLAIN, nesterov=False)
ADAM = dataclasses.replace(PLAIN, optimizer="adam", damping=1e-6)
RMSPROP = dataclasses.replace(PLAIN, optimizer="rmsprop", damping=0.5)


def steps(make: Any, n: int = 6) -> list[Tensor]:
    """Minimise a bent bowl."""
    x = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = make([x])
    path = []
    for _ in range(n):
        optimizer.zero_grad()
        (x**2 * torch.tensor([1.0, 3.0, 0.2]) + x.sin()).sum().backward()
        optimizer.step()
        path.append(x.detach().clone())
    return path


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (PLAIN, lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=0.01, nesterov=True)),
        (SGD, lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=0.01)),
        (ADAM, lambda p: torch.optim.Adam(p, 0.02, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)),
    ],
)
def test_it_is_torch_s(config: TrainConfig, theirs: Any) -> None:
    ours = steps(lambda p: make_optimizer(config, p))
    assert all(torch.equal(a, b) for a, b in zip(ours, steps(theirs), strict=True))


class WrittenOut:
    """TensorFlow's RMSProp as its documentation gives it, with an L2 penalty in the gradient."""

    def __init__(self, x: nn.Parameter) -> None:
        self.x, self.mean, self.moment = x, torch.ones_like(x), torch.zeros_like(x)

    def zero_grad(self) -> None:
        self.x.grad = None

    def step(self) -> None:
        assert self.x.grad is not None
        with torch.no_grad():
            grad = self.x.grad + 0.01 * self.x
            self.mean = 0.9 * self.mean + 0.1 * grad**2
            self.moment = 0.9 * self.moment + 0.02 * grad / (self.mean + 0.5).sqrt()
            self.x.sub_(self.moment)


def test_rmsprop_is_tensorflow_s() -> None:
    ours = steps(lambda p: make_optimizer(RMSPROP, p))
    for a, b in zip(ours, steps(lambda p: WrittenOut(p[0])), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("config", [SGD, ADAM, RMSPROP], ids=["sgd", "adam", "rmsprop"])
def test_the_loop_trains_with_it(config: TrainConfig) -> None:
    log = train(tiny_network(), tiny_images(), config=dataclasses.replace(config, epochs=6))
    assert log[-1].loss < 0.9 * log[0].loss


def test_gradients_are_clipped_to_a_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm over all parameters together, as torch's clipping has it; shorter ones are left alone."""
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *args: Any) -> Any:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    train(tiny_network(), tiny_images(), config=PLAIN)
    free, limit = norms.copy(), sorted(norms)[2]
    norms.clear()
    train(tiny_network(), tiny_images(), config=dataclasses.replace(PLAIN, clip_norm=limit, lr=1e-9))
    assert max(norms) <= limit * 1.0001
    assert max(free) > limit
    norms.clear()
    train(tiny_network(), tiny_images(), config=dataclasses.replace(PLAIN, clip_norm=1e9))
    assert norms == free
