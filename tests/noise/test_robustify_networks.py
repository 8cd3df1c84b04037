"""What robustify promises, on every network of `networks.NETWORKS`."""

from __future__ import annotations

import copy
import io
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from networks import NETWORKS, skeleton, small
from resolute.noise.perturb import perturb
from resolute.noise.robustify import attach, is_robust, robustify, unrobustify
from resolute.noise.sites import sites

if TYPE_CHECKING:
    from collections.abc import Callable

    from networks import Network


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]


def test_evaluation_is_the_untouched_network_bit_for_bit(case: Network) -> None:
    model, x = case.build().eval(), case.images()
    wanted = model(x)
    robustify(model, eps=0.5, where="both")
    assert torch.equal(model(x), wanted)
    assert torch.equal(model.train().eval()(x), wanted)


def test_every_site_perturbs_in_training_and_none_in_evaluation(case: Network) -> None:
    model, met = case.build(), list[Tensor]()

    def noise(x: Tensor, eps: float = 0.1) -> Tensor:
        met.append(x)
        return perturb(x, eps)

    attach(model, noise, "both")
    assert len(sites(model, "hidden")) == case.rectifiers
    model.train()(case.images())
    assert len(met) >= 1 + case.rectifiers
    met.clear()
    model.eval()(case.images())
    assert not met


def test_gradients_reach_every_weight(case: Network) -> None:
    model = robustify(case.build().train(), eps=0.3, where="both")
    model(case.images()).pow(2).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_state_is_the_same_and_loads_strictly_both_ways(case: Network) -> None:
    plain, robust = case.build(), case.build()
    tensors = [id(t) for t in (*robust.parameters(), *robust.buffers())]
    robustify(robust, where="both")
    assert [id(t) for t in (*robust.parameters(), *robust.buffers())] == tensors
    assert list(robust.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(robust.state_dict(), strict=True)
    x = case.images()
    assert torch.equal(plain.eval()(x), robust.eval()(x))
    robust.load_state_dict(case.build().state_dict(), strict=True)


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


CLONES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("clone", CLONES)
def test_copies_are_robust_and_apart(case: Network, clone: str) -> None:
    model = robustify(case.build(), eps=0.3, where="both")
    other = CLONES[clone](model)
    assert sites(other, "both") == sites(model, "both")
    assert [type(m) for m in other.modules()] == [type(m) for m in model.modules()]
    x = case.images()
    assert torch.equal(other.eval()(x), model.eval()(x))
    unrobustify(model)
    assert is_robust(other)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert a.data_ptr() != b.data_ptr()


def test_shallow_copies_are_robust() -> None:
    model = robustify(small(), where="both")
    other = copy.copy(model)
    assert type(other) is type(model)
    assert sites(other, "both") == sites(model, "both")
    assert other[0] is model[0]


def test_unrobustify_leaves_everything_as_it_was(case: Network) -> None:
    model = case.build()
    before, shown, listed = skeleton(model), repr(model), sites(model, "both")
    assert not is_robust(model)
    assert robustify(model, where="both") is model
    assert is_robust(model)
    assert sites(model, "both") == listed
    assert unrobustify(model) is model
    assert not is_robust(model)
    assert skeleton(model) == before
    assert repr(model) == shown


def test_unrobustify_leaves_a_plain_network_alone() -> None:
    model = small()
    before = skeleton(model)
    assert skeleton(unrobustify(model)) == before
