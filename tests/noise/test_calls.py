"""What the code of a module calls as functions, against code whose calls can be seen at a glance."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.noise.sites import ACTIVATIONS, called


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
