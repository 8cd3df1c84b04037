"""The loss that a network trains on: the cross-entropy, or its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resolute import models
from resolute.errors import InputError
from resolute.models import loss
from resolute.models.capsnet import CapsNet


class Squared(nn.Linear):
    """Has a loss of its own, and listens."""

    heard = -1.0

    def per_image_loss(self, x: Tensor, y: Tensor, outputs: Tensor) -> Tensor:
        return (outputs.sum(1) + x.sum(1) - y) ** 2

    def on_progress(self, done: float) -> None:
        self.heard = done


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_cross_entropy_is_that_of_the_formula(smoothing: float) -> None:
    x, y = torch.randn(5, 4, dtype=torch.float64).float(), torch.tensor([0, 2, 1, 1, 0])
    model = nn.Linear(4, 3)
    chances = model(x).double().softmax(1)
    wanted = torch.full((5, 3), smoothing / 3, dtype=torch.float64)
    wanted[torch.arange(5), y] += 1 - smoothing
    by_hand = -(wanted * chances.log()).sum(1).mean()
    for outputs in (model(x), (model(x), torch.zeros(1))):
        found = loss.loss(model, x, y, outputs, smoothing)
        torch.testing.assert_close(found.double(), by_hand, rtol=1e-5, atol=0)


def test_half_precision_is_widened_first() -> None:
    outputs = torch.tensor([[2.0, 1.0]], dtype=torch.float16)
    found = loss.loss(nn.Identity(), outputs, torch.tensor([0]), outputs)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(math.log1p(math.exp(-1)), rel=1e-6)


def test_a_loss_of_its_own_is_averaged_and_smooths_no_labels() -> None:
    model, x, y = Squared(4, 2), torch.randn(6, 4), torch.arange(6)
    with torch.no_grad():
        own = [(model(image).sum().item() + image.sum().item() - k) ** 2 for k, image in enumerate(x)]
    assert loss.loss(model, x, y, model(x)).item() == pytest.approx(sum(own) / 6, rel=1e-5)
    with pytest.raises(InputError, match="Squared has its own loss, without labels to smooth: use label_smoothing 0"):
        loss.loss(model, x, y, model(x), 0.1)


def test_a_network_that_wants_to_know_is_told_of_the_progress() -> None:
    model = Squared(4, 2)
    loss.tell_progress(nn.DataParallel(model), 0.25)
    assert model.heard == 0.25
    loss.tell_progress(nn.Linear(4, 2), 0.25)


def test_the_loss_is_found_under_wrappers_and_behind_normalize() -> None:
    model = models.build("capsnet", classes=3, shape=(1, 18, 18))
    wrapped: Any = torch.compile(model, backend="eager")
    assert loss.network(nn.DataParallel(wrapped)) is model.network
    assert loss.network(nn.ReLU()).__class__ is nn.ReLU
    assert isinstance(model.network, CapsNet)
