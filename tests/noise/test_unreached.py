"""Each activation that no noise reaches is found, in networks of many kinds, and nothing is changed by looking."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noise.functional import BasicConv, Between, ByName, Ends, SharedDropout, Spent, SquaredReLU, X, layers
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import attach, is_robust, robustify
from resolute.noise.sites import sites
from resolute.noise.unreached import Unreached, unreached

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolute.noise.sites import Where

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


def test_the_fused_path_of_evaluation_does_not_hide_what_training_computes() -> None:
    model = layers().eval()
    assert len(unreached(model, X)) == 3
    assert not model.training


@pytest.mark.usefixtures("compiler")
def test_a_compiled_network_is_looked_into() -> None:
    model = torch.compile(BasicConv(), backend="eager")
    model(X)
    found = unreached(model, X)  # type: ignore[arg-type]
    assert [(u.name, u.function, u.where) for u in found] == [("_orig_mod", "relu", BasicConv)]


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
def test_scripted_modules_do_not_break_it() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), BasicConv())
    assert [u.name for u in unreached(model, X)] == ["1"]


def test_gates_are_no_activations() -> None:
    from timm.layers import HardSigmoid

    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x) + torch.tanh(x).softmax(-1)

    assert unreached(nn.Sequential(HardSigmoid(), nn.Sigmoid(), Gate()), X) == []


def lstm(functional: bool) -> nn.Module:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(9, 4), nn.LSTM(4, 4, batch_first=True)
            self.fc1, self.act, self.fc2 = nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.fc1(self.lstm(self.embed(x))[0][:, -1])
            return self.fc2(F.relu(x) if functional else self.act(x))  # type: ignore[no-any-return]

    return Classifier()


def audio(functional: bool) -> nn.Module:
    class Audio(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv1d(1, 4, 8, 4), nn.BatchNorm1d(4)
            self.conv2, self.bn2 = nn.Conv1d(4, 4, 3), nn.BatchNorm1d(4)
            self.act = nn.LeakyReLU(0.1, inplace=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            act = F.leaky_relu if functional else self.act
            x = act(self.bn2(self.conv2(act(self.bn1(self.conv1(x))))))
            return self.head(x.mean(-1))  # type: ignore[no-any-return]

    return Audio()


OTHERS: dict[str, tuple[nn.Module, Tensor, int, list[Where | None]]] = {
    "lstm, functions": (lstm(True), torch.arange(8).view(2, 4), 1, ["fc2:input"]),
    "lstm, modules": (lstm(False), torch.arange(8).view(2, 4), 1, []),
    "audio, functions": (audio(True), torch.rand(2, 1, 64), 1, ["conv2:input", None]),
    "audio, modules": (audio(False), torch.rand(2, 1, 64), 1, []),
    "transformer": (layers(), torch.rand(2, 3, 4), 0, ["layers.*.dropout:input"] * 3),
}


@pytest.mark.filterwarnings("ignore:.*calls activations as functions")
@pytest.mark.parametrize("name", OTHERS)
def test_networks_for_text_and_sound(name: str) -> None:
    model, x, hidden, wanted = OTHERS[name]
    where = [u.where for u in unreached(model, x)]
    assert where == wanted
    plain = model.eval()(x)
    robustify(model, eps=0.3, where=["hidden", *set(where)])
    assert torch.equal(model(x), plain)
    assert len(sites(model, ["hidden", *set(where)])) >= max(1, hidden)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    out = model(x)
    assert not torch.equal(out, model(x))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


WRONG = torch.rand(2, 7, 3)


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.register = nn.BatchNorm1d(2), None
        self.frozen = nn.BatchNorm1d(2).eval()
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))
        self.alias = nn.Module()
        self.alias.register_buffer("steps", self.steps)

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        if self.training:
            x = x + torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return F.relu(self.frozen(self.norm(x)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_everything_is_as_it_was(training: bool, fails: bool) -> None:
    model = Stateful().train(training)
    model.frozen.eval()
    robustify(model, where=nn.BatchNorm1d)
    before = {name: (t, t._version, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    flags = [module.training for module in model.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    if fails:
        with pytest.raises(RuntimeError, match="running_mean"):
            unreached(model, WRONG)
    else:
        assert len(unreached(model, X)) == 1
    after = model.state_dict(keep_vars=True)
    for name, (tensor, version, value) in before.items():
        assert after[name] is tensor, name
        assert tensor._version == version
        assert torch.equal(tensor, value)
    assert model.alias.steps is model.steps
    assert [module.training for module in model.modules()] == flags
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()] == hooks
    assert random.getstate() == states[1]
    assert (np.random.get_state()[1] == states[2]).all()  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[0])
    assert all(vars(m)["_resolute_noise"] for m in (model.norm, model.frozen))
