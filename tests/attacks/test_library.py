from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from cases import as_float, tiny_convolution, tiny_images, tiny_info, tiny_network
from resolute import attacks
from resolute.attacks import autoattack, square
from resolute.errors import InputError
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


@pytest.mark.parametrize("attack", [functools.partial(square, queries=50), autoattack])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_library_s_attacks_stay_in_the_ball_and_fool(attack: Callable[..., Tensor], classes: int) -> None:
    pytest.importorskip("torchattacks")
    x, _ = as_float(tiny_images(6))
    model: nn.Module = tiny_network(classes=classes)
    y = model.eval()(x).argmax(1)
    model.train()
    before = torch.random.get_rng_state()
    attacked = attack(model, x, y, 0.3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert (attacked - x).abs().max() <= 0.3 + 1e-6
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert (model.eval()(attacked).argmax(1) == y).sum() < 6
    assert torch.equal(attack(model, x, y, 0.3), attacked)


def test_wrong_images_are_left_as_they_are() -> None:
    pytest.importorskip("torchattacks")
    model, (x, _) = tiny_convolution().eval(), as_float(tiny_images(6))
    y = (model(x).argmax(1) + 1) % 3
    assert torch.equal(square(model, x, y, 0.3, 10), x)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(InputError, match=r"pip install 'resolute\[attacks\]'"):
        find_shifts(["attacks"], tiny_info())


def test_what_the_library_gives_for_an_image_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it divides nothing by nothing, the image stays as it was."""

    class Library:
        def Square(self, *_: Any, **__: Any) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda x, _y: x.add(0.1).index_fill(0, torch.tensor([1]), torch.nan)

    monkeypatch.setattr(attacks, "torchattacks", Library)
    network, (x, _) = tiny_network().eval(), as_float(tiny_images(6))
    attacked = square(network, x, network(x).argmax(1), 0.3)
    assert torch.equal(attacked[1], x[1])
    torch.testing.assert_close(attacked[2:], x[2:].add(0.1).clamp(0, 1))
