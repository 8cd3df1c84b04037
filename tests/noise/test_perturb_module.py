"""The module `Perturb`."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
import torch

from resolute.noise.perturb import Perturb

if TYPE_CHECKING:
    from collections.abc import Callable


def test_module_perturbs_in_training_and_is_the_identity_otherwise() -> None:
    layer, x = Perturb(0.25), torch.randn(50)
    torch.testing.assert_close((layer(x) - x).abs(), 0.25 * x.abs())
    assert layer.eval()(x) is x
    assert torch.equal(layer.train()(x).sign(), x.sign())
    assert not torch.equal(layer(x), layer(x))


def test_module_hands_p_on() -> None:
    x = torch.randn(50)
    assert (Perturb(0.1, p=1.0)(x) >= x).all()
    assert (Perturb(0.1, p=0.0)(x) <= x).all()


def test_module_adds_no_state_and_shows_its_numbers() -> None:
    layer = Perturb(0.2, 0.4)
    assert layer.state_dict() == {}
    assert repr(layer) == "Perturb(eps=0.2, p=0.4)"


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_module_survives_copies(clone: Callable[[Perturb], Perturb]) -> None:
    layer = clone(Perturb(0.2, 0.4).eval())
    assert (layer.eps, layer.p, layer.training) == (0.2, 0.4, False)
