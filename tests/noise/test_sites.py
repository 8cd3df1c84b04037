"""Which modules count as activations, what `where` names of them, and what a module's code calls as functions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from resolute.errors import InputError
from resolute.noise.sites import ACTIVATIONS, called, find_sites, functional, is_rectifier, sites

if TYPE_CHECKING:
    from resolute.noise.sites import Where


class Act(nn.Module):
    """An activation by what it does; its name says nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class Chosen(nn.Module):
    """Holds the function that it calls."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Dense(nn.Module):
    """Calls an activation, but has weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) @ self.weight


class MyReLU(nn.ReLU):
    """Descends from a rectifier."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.linear = nn.Dropout(), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.drop(F.gelu(x)))  # type: ignore[no-any-return]


def _of_timm(name: str, *args: Any, **kwargs: Any) -> nn.Module:
    from timm import layers
    from timm.models.nfnet import GammaAct

    made: nn.Module = {**vars(layers), "GammaAct": GammaAct}[name](*args, **kwargs)
    return made


def _of_transformers(name: str) -> nn.Module:
    from transformers.activations import ACT2FN

    made: nn.Module = ACT2FN[name]
    return made


def _weighted_prelu() -> nn.Module:
    return parametrizations.weight_norm(nn.PReLU(2), dim=None)  # type: ignore[no-any-return, arg-type]


TRANSFORMERS = {
    "gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_accurate", "gelu_python_tanh",
    "quick_gelu", "leaky_relu", "mish", "prelu", "relu", "relu2", "relu6", "silu", "swish", "xielu",
}  # fmt: skip
GATES = {"laplace", "linear", "sigmoid", "tanh"}

RECTIFIERS: dict[str, nn.Module] = {
    "by what it does": Act(),
    "by what it holds": Chosen(F.gelu),
    "by descent": MyReLU(),
    "PReLU": nn.PReLU(3),
    "PReLU of a parametrised weight": _weighted_prelu(),
    "timm EvoNorm2dS0": _of_timm("EvoNorm2dS0", 8),
    "timm EvoNorm2dB0": _of_timm("EvoNorm2dB0", 8),
    "timm FilterResponseNormTlu2d": _of_timm("FilterResponseNormTlu2d", 8),
    "timm GammaAct": _of_timm("GammaAct", "silu", gamma=1.7),
    **{f"timm {name}": _of_timm(name) for name in ("GELU", "GELUTanh", "QuickGELU", "HardSwish", "HardMish", "PReLU")},
}
OTHERS: dict[str, nn.Module] = {
    "a gate that it holds": Chosen(torch.sigmoid),
    "its own weights": Dense(),
    "a block": Block(),
    "timm HardSigmoid calls relu6": _of_timm("HardSigmoid"),
    "timm EvoNorm2dS0 without its activation": _of_timm("EvoNorm2dS0", 8, apply_act=False),
    "timm FilterResponseNormTlu2d without its activation": _of_timm("FilterResponseNormTlu2d", 8, apply_act=False),
    "timm BatchNormAct2d": _of_timm("BatchNormAct2d", 8),
    "ReLU in a container": nn.Sequential(nn.ReLU()),
}


@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers(name: str) -> None:
    module = RECTIFIERS[name]
    assert is_rectifier(module)
    assert [site.name for site in sites(nn.Sequential(nn.Linear(2, 2), module))] == ["1"]


@pytest.mark.parametrize("name", OTHERS)
def test_modules_that_are_none(name: str) -> None:
    assert not is_rectifier(OTHERS[name])


def test_activations_of_transformers() -> None:
    from transformers.activations import ACT2FN

    assert set(ACT2FN) >= TRANSFORMERS | GATES
    for name in TRANSFORMERS:
        module = _of_transformers(name)
        assert any(is_rectifier(m) for m in module.modules()), name
    assert not [name for name in GATES if is_rectifier(_of_transformers(name))]


def test_an_activation_inside_a_normalisation_is_its_child() -> None:
    """timm's order is norm, drop, act: what leaves the block is what gets the noise."""
    module = _of_timm("BatchNormAct2d", 4, drop_layer=nn.Dropout2d)
    assert [site.name for site in sites(module)] == ["act"]
    assert not find_sites(nn.Sequential(_of_timm("BatchNormAct2d", 4, apply_act=False), nn.ReLU()), "hidden").keys() - {
        ("1", "output")
    }


INPUTS: dict[str, tuple[Where, list[tuple[str, str]]]] = {
    "pattern": ("*.linear:input", [("0.linear", "input"), ("1.linear", "input")]),
    "name": ("1.linear:input", [("1.linear", "input")]),
    "the model": (":input", [("", "input")]),
    "both sides": (["0.linear", "0.linear:input"], [("0.linear", "output"), ("0.linear", "input")]),
    "mixed": (["hidden", "0.drop:input", None, nn.Linear], [
        ("0.drop", "input"), ("0.linear", "output"), ("1.linear", "output"), ("2", "output"),
    ]),
    "hidden, which matches nothing": (["hidden", "0:input"], [("0", "input"), ("2", "output")]),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_are_named_by_a_suffix(name: str) -> None:
    where, wanted = INPUTS[name]
    assert list(find_sites(nn.Sequential(Block(), Block(), nn.ReLU()), where)) == wanted


def test_hidden_may_match_nothing_beside_named_places_only() -> None:
    model = nn.Sequential(Block(), Block())
    assert list(find_sites(model, ["hidden", "0.drop:input"])) == [("0.drop", "input")]
    for where in ("hidden", ["hidden"], ["hidden", "input"], ["hidden", None], ["hidden", "no such"]):
        with pytest.raises(InputError, match="matches no module"):
            find_sites(model, where)
    with pytest.raises(InputError, match="where='drop:input' matches no module of Sequential"):
        find_sites(model, "drop:input")
    with pytest.raises(InputError, match="where is empty"):
        find_sites(model, [None])


def test_nothing_matched_tells_of_activations_called_as_functions() -> None:
    with pytest.raises(InputError, match=r"This network calls some: 2 Block \(gelu\)\. resolute\.unreached\(model, ex"):
        sites(nn.Sequential(Block(), Block()))
    with pytest.raises(InputError, match=r"not modules\. resolute\.unreached"):
        sites(nn.Sequential(nn.Linear(2, 2)))


def test_functions_are_listed_until_they_get_noise() -> None:
    model = nn.Sequential(Block(), Block(), Dense(), nn.ReLU(), Act(), _of_timm("HardSigmoid"))
    assert functional(model, {}) == "2 Block (gelu), 1 Dense (relu)"
    assert functional(model, find_sites(model, Block)) == "1 Dense (relu)"
    assert functional(model, find_sites(model, ["*.drop:input", "2"])) == ""
    assert functional(model, find_sites(model, ["0.drop:input", "*.drop"])) == "1 Block (gelu), 1 Dense (relu)"


# What the code of a module calls as functions


def helper(x: Tensor) -> Tensor:
    return torch.relu_(x)


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Made(nn.Module):
    """Holds what a forward below may use."""

    def __init__(self, **held: Any) -> None:
        super().__init__()
        self.linear, self.relu, self.norm = nn.Linear(2, 2), nn.ReLU(), None
        for name, value in held.items():
            setattr(self, name, value)


class Spelled(Made):
    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(F.gelu(torch.relu(x)), 0.1)


class OfTensor(Made):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y.relu() + self.linear(x).relu_()  # type: ignore[no-any-return]


class InMethod(Made):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def inner(self, x: Tensor) -> Tensor:
        return F.silu(x)


class BySuper(InMethod):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class ByHelper(Made):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([helper(row) for row in x])


class Decorated(Made):
    @decorated
    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x)


class Property(Made):
    @property
    def twice(self) -> Tensor:
        return F.mish(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.twice


class Held(Made):
    def forward(self, x: Tensor) -> Any:
        return self.act(x)  # type: ignore[operator]


class ForSome(Made):
    def forward(self, x: Tensor) -> Tensor:
        if self.wanted:
            x = F.relu(x)
        return x


class ForNone(Made):
    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            return F.relu(x)
        return self.norm(x)  # type: ignore[unreachable]


class InTraining(Made):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = F.relu(x)
        return x


class ByModule(Made):
    """Calls modules, one of them by a name that functions have."""

    def forward(self, x: Tensor) -> Tensor:
        for module in (self.linear, self):
            x = module.relu(x) if isinstance(module, ByModule) else self.relu(x)
        return torch.sigmoid(F.max_pool1d(x, 1)) * torch.tanh(x)

    def never(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Forever(Made):
    def forward(self, x: Tensor) -> Tensor:
        return self.forward(F.relu(x))


CASES: dict[str, tuple[Made, tuple[str, ...]]] = {
    "spelled": (Spelled(), ("gelu", "leaky_relu", "relu")),
    "of a tensor": (OfTensor(), ("relu",)),
    "in a method": (InMethod(), ("silu",)),
    "by super": (BySuper(), ("silu",)),
    "by a helper in a comprehension": (ByHelper(), ("relu",)),
    "under a decorator": (Decorated(), ("elu",)),
    "in a property": (Property(), ("mish",)),
    "held": (Held(act=F.hardswish), ("hardswish",)),
    "held in a partial": (Held(act=functools.partial(F.gelu, approximate="tanh")), ("gelu",)),
    "held in a lambda": (Held(act=lambda x: F.celu(x)), ("celu",)),
    "held, but a gate": (Held(act=torch.sigmoid), ()),
    "held, but a module": (Held(act=nn.ReLU()), ()),
    "for some, wanted": (ForSome(wanted=True), ("relu",)),
    "for some, not wanted": (ForSome(wanted=False), ()),
    "for some, a module": (ForSome(wanted=nn.ReLU()), ("relu",)),
    "for none": (ForNone(), ("relu",)),
    "for none, but there is one": (ForNone(norm=nn.Identity()), ()),
    "in training": (InTraining().eval(), ("relu",)),
    "modules": (ByModule(), ()),
    "itself": (Forever(), ("relu",)),
}


@pytest.mark.parametrize("name", CASES)
def test_calls_are_read_from_the_code(name: str) -> None:
    module, wanted = CASES[name]
    assert called(module, type(module)) == wanted


def test_a_forward_put_on_the_module_is_the_one_that_is_read() -> None:
    module = nn.Linear(2, 2)
    assert called(module, nn.Linear) == ()
    module.forward = lambda x: F.relu(x)  # type: ignore[method-assign, assignment]
    assert called(module, nn.Linear) == ("relu",)


def test_code_without_a_source_file_is_read() -> None:
    names: dict[str, Any] = {"nn": nn, "F": F}
    exec("class Net(nn.Module):\n    def forward(self, x):\n        return F.relu(x)\n", names)
    assert called(names["Net"](), names["Net"]) == ("relu",)


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
def test_what_cannot_be_read_is_taken_as_free_of_calls() -> None:
    for module in (torch.jit.script(nn.Sequential(nn.ReLU())), nn.LSTM(2, 2), nn.ModuleList(), nn.Module()):
        assert called(module, type(module)) == ()


def test_every_function_of_the_family_is_known_and_gates_are_not() -> None:
    named = {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish"}
    assert set(ACTIVATIONS.values()) == named | {"hardswish"}
    for function in (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.gelu, torch.selu_):
        assert ACTIVATIONS[function] in function.__name__
    assert not {torch.sigmoid, torch.tanh, F.softmax, F.hardsigmoid, F.glu} & set(ACTIVATIONS)


def test_layers_are_all_convolutions_and_linear_layers_but_the_last() -> None:
    conv = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 4, 3), nn.Flatten())
    model = nn.Sequential(conv, nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert [(site.name, site.side) for site in sites(model, "layers")] == [
        ("0.0", "output"),
        ("0.3", "output"),
        ("1", "output"),
    ]
    assert [(site.name, site.side) for site in sites(model, "last")] == [("3", "input")]
    assert [site.name for site in sites(model, ["last", "hidden"])] == ["0.2", "2", "3"]


def test_an_attentions_last_layer_that_is_never_called_is_no_layer() -> None:
    block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    names = [site.name for site in sites(nn.Sequential(block, nn.Linear(4, 2)), "layers")]
    assert names == ["0.linear1", "0.linear2"]


@pytest.mark.parametrize("where", ["layers", "last"])
def test_where_there_are_none_the_candidates_are_named(where: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(InputError, match=rf"where='{where}' matches no module of Sequential. Candidates: 1 Conv2d"):
        sites(model, where)
