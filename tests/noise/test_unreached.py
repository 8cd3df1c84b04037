"""Each activation that no noise reaches is found, and what is named for it reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noise.functional import BasicConv, Between, ByName, Ends, SharedDropout, Spent, SquaredReLU, X, layers
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import attach, is_robust, robustify
from resolute.noise.unreached import Unreached, unreached

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS = {"layers.*.dropout:input"}
CASES: dict[str, tuple[Callable[[], nn.Module], list[str], set[Any]]] = {
    "output": (lambda: nn.Sequential(BasicConv(), BasicConv()), ["0 relu", "1 relu"], {BasicConv}),
    "in place": (lambda: nn.Sequential(BasicConv(inplace=True)), ["0 relu"], {BasicConv}),
    "input": (Between, [" relu", " gelu"], {"second:input", "third:input"}),
    "nowhere": (Spent, [" silu", " relu"], {None}),
    "some of a class": (lambda: nn.Sequential(Ends(True), Ends(False), nn.ReLU()), ["0 relu"], {"0"}),
    "transformer": (layers, [f"layers.{i} relu" for i in range(3)], LAYERS),
    "transformer, gelu": (lambda: layers("gelu"), [f"layers.{i} gelu" for i in range(3)], LAYERS),
    "some of the layers": (
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Sequential(Between(), nn.Linear(2, 2))),
        ["1.0 relu", "1.0 gelu"],
        {"*.*.second:input", "*.*.third:input"},
    ),
    "a dropout for more than it": (SharedDropout, [" relu"], {"second:input"}),
    "by keyword": (ByName, [" relu"], {"inner:input"}),
    "activation modules": (lambda: nn.Sequential(nn.ReLU(), SquaredReLU(), nn.PReLU(), nn.GELU()), [], set()),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, list[str], set[Any]]:
    build, calls, where = CASES[request.param]
    return build(), calls, where


def run(model: nn.Module) -> Tensor:
    return X[:, :1] if any(isinstance(m, Between) for m in model.modules()) else X


def test_each_call_is_found_and_a_place_named(case: tuple[nn.Module, list[str], set[Any]]) -> None:
    model, calls, where = case
    found = unreached(model, run(model))
    assert [f"{u.name} {u.function}" for u in found] == calls
    assert {u.where for u in found} == where
    assert all(u.module_type is type(model.get_submodule(u.name)) for u in found)


def test_what_is_named_reaches_it(case: tuple[nn.Module, list[str], set[Any]]) -> None:
    """Noise put there meets each activation's own values, and then nothing but what has no place is unreached."""
    model, calls, where = case
    if where in ({None}, set()):
        pytest.skip("nothing is named")
    named = ["hidden", *where]
    assert unreached(model, run(model), where=named) == []
    met = list[Tensor]()

    def noise(x: Tensor, eps: float = 0.1) -> Tensor:
        met.append(x.detach().clone())
        return perturb(x, eps)

    attach(model.train(), noise, [*where])
    model(run(model))
    assert len(met) == len(calls)
    for x, call in zip(met, calls, strict=True):
        assert x.min() >= {"relu": 0.0, "gelu": -0.35}[call.split()[-1]], "where inputs are as low as -1"


def test_where_that_has_no_place_says_what_to_do() -> None:
    silu, relu = unreached(Spent(), X)
    assert silu == Unreached("", Spent, "silu", None, silu.reason)
    assert silu.reason.startswith("no module takes its result as it is: add takes it. Make it a module (self.act = ")
    assert silu.reason.endswith("or hand it to a module self.noise = resolute.Perturb(eps)")
    assert "add_ takes it" in relu.reason


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.noise = nn.Linear(4, 4), Perturb(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.noise(F.relu(self.linear(x)))  # type: ignore[no-any-return]


def test_noise_by_hand_counts_as_reached() -> None:
    model = nn.Sequential(ByHand(), nn.ReLU())
    assert unreached(model, X) == []
    assert is_robust(robustify(model))


def test_where_counts_as_reached() -> None:
    model = nn.Sequential(nn.ReLU(), BasicConv(), nn.GELU())
    assert [(u.name, u.where) for u in unreached(model, X, where="input")] == [
        ("0", nn.ReLU), ("1", BasicConv), ("2", nn.GELU),
    ]  # fmt: skip
    assert [u.name for u in unreached(model, X, where=[nn.GELU, "no such", None])] == ["0", "1"]
    assert unreached(model, X, where=["hidden", BasicConv]) == []
    assert [u.name for u in unreached(model, X, where="")] == ["0", "1"], "the model's output is the last one's"


def test_a_noisy_network_shows_the_same() -> None:
    model = nn.Sequential(nn.ReLU(), BasicConv())
    wanted = unreached(model, X)
    robustify(model, where=["hidden", BasicConv])
    assert len(wanted) == 1
    assert unreached(model, X) == wanted
    assert not torch.equal(model(X), model(X))
