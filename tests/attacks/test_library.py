from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from cases import as_float, tiny_convolution, tiny_images, tiny_info, tiny_network
from resolute.attacks import autoattack, square
from resolute.errors import InputError
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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


@pytest.mark.parametrize("attack", [functools.partial(square, queries=20), autoattack])
def test_a_network_whose_answers_are_no_numbers_gets_images(attack: Callable[..., Tensor]) -> None:
    pytest.importorskip("torchattacks")
    x, _ = as_float(tiny_images(6))
    network: nn.Module = tiny_network(classes=5)
    y = network.eval()(x).argmax(1)

    class Spoilt(nn.Module):
        """Gives NaN for all images but these."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            known = (images[:, None] == x).flatten(2).all(2).any(1)
            logits: Tensor = self.network(images)
            return torch.where(known[:, None], logits, torch.nan * logits)

    attacked = attack(Spoilt(), x, y, 0.3)
    assert attacked.isfinite().all()
    assert (attacked - x).abs().max() <= 0.3 + 1e-6
