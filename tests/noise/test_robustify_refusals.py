"""What is refused, before anything changes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import fx, nn
from torch.nn.utils import parametrizations

from networks import skeleton, small
from resolute.errors import InputError
from resolute.noise.robustify import is_robust, robustify, set_eps, unrobustify

if TYPE_CHECKING:
    from resolute.noise.sites import Where


@pytest.mark.parametrize("eps", [1.0, -0.1, float("nan")])
def test_eps_out_of_range_changes_nothing(eps: float) -> None:
    model = small()
    for call in (robustify, set_eps):
        with pytest.raises(InputError, match=rf"^eps is {eps}; it must be at least 0 and below 1"):
            call(model, eps)
    with pytest.raises(InputError, match=r"^p is 2;"):
        robustify(model, p=2)
    assert not is_robust(model)


@pytest.mark.parametrize(
    ("where", "shown"), [("layer?.*", "'layer?.*'"), (nn.Conv3d, "'Conv3d'"), ("hiden", "'hiden'")]
)
def test_nothing_matched_names_the_candidates(where: Where, shown: str) -> None:
    model = small()
    with pytest.raises(InputError) as caught:
        robustify(model, where=where)
    message = str(caught.value)
    assert message.startswith(f"where={shown} matches no module of Sequential. Candidates: 3 Linear, 1 ReLU, 1 GELU; ")
    assert "by name '0', '1', '2', '3', '4'. " in message
    assert message.endswith("or use where='input'.")
    assert not is_robust(model)


@pytest.mark.parametrize("where", ["hidden", "both", ["input", "hidden"]])
def test_a_network_without_activation_modules_says_what_to_name(where: Where) -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(9)), nn.Sigmoid())
    with pytest.raises(
        InputError, match=r"9 Linear, 1 Sigmoid; .*'7' and 2 more\. Activations called as functions \(F.relu\)"
    ):
        robustify(model, where=where)
    assert not is_robust(model)


def test_an_empty_where_is_refused() -> None:
    with pytest.raises(InputError, match=r'^where is empty. Try where="hidden"'):
        robustify(small(), where=[])


def test_set_eps_needs_a_robust_model() -> None:
    with pytest.raises(InputError, match=r"^set_eps got a Sequential that carries no noise. Call robustify"):
        set_eps(small(), 0.1)


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
@pytest.mark.parametrize("kind", ["script", "trace"])
def test_scripted_modules_are_refused(kind: str) -> None:
    model = torch.jit.script(small()) if kind == "script" else torch.jit.trace(small(), torch.rand(3, 4))
    with pytest.raises(InputError, match=r"^'1' \(\w+\) is scripted, .* would be ignored"):
        robustify(model, where="1")


def test_modules_with_another_forward_are_refused_before_anything_changes() -> None:
    model = small()
    model[3].forward = torch.tanh
    with pytest.raises(InputError, match=r"^'3' \(GELU\) .* forward replaced, .* Call robustify before the tool"):
        robustify(model)
    assert not is_robust(model)


def test_a_traced_root_is_refused_but_its_activations_are_not() -> None:
    model = fx.symbolic_trace(small())
    with pytest.raises(InputError, match=r"^'the model' .* traced"):
        robustify(model, where="input")
    x = torch.rand(5, 4)
    assert not torch.equal(robustify(model)(x), model(x))
    assert is_robust(copy.deepcopy(model))


def test_a_class_exchanged_by_another_tool_in_between_is_not_lost() -> None:
    model = robustify(small(), where=["hidden", "2"])
    parametrizations.spectral_norm(model[2])
    with pytest.raises(InputError, match=r"^a ParametrizedPerturbedLinear had its class exchanged after robustify"):
        unrobustify(model)
    assert len([m for m in model if is_robust(m)]) == 3, "all or nothing"
    torch.nn.utils.parametrize.remove_parametrizations(model[2], "weight")
    unrobustify(model)
    assert type(model[2]) is nn.Linear


def test_a_class_exchanged_before_comes_back() -> None:
    model = small()
    parametrizations.spectral_norm(model[2])
    before = skeleton(model)
    robustify(model, where=nn.Linear)(torch.rand(3, 4)).sum().backward()
    assert skeleton(unrobustify(model)) == before
