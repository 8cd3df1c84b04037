"""Which sites `where` chooses, and what the noise meets there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from networks import small, strengths
from resolute.noise.robustify import is_robust, robustify
from resolute.noise.sites import Site, sites

if TYPE_CHECKING:
    from resolute.noise.sites import Where


class Normalize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - 0.5


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ReLUBlock(nn.Module):
    """Has the name of a rectifier, but holds modules."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(x))  # type: ignore[no-any-return]


def normalized() -> nn.Sequential:
    return nn.Sequential(Normalize(), small())


WHERE: dict[str, tuple[Where, list[str]]] = {
    "hidden": ("hidden", ["1", "3"]),
    "input": ("input", [""]),
    "both": ("both", ["", "1", "3"]),
    "type": (nn.Linear, ["0", "2", "4"]),
    "glob": ("[0-2]", ["0", "1", "2"]),
    "name": ("3", ["3"]),
    "predicate": (lambda name, module: name != "1" and isinstance(module, nn.ReLU | nn.GELU), ["3"]),
    "sequence": ([nn.GELU, "0", "input"], ["", "0", "3"]),
    "overlapping sequence": (("hidden", "1", nn.ReLU), ["1", "3"]),
}


@pytest.mark.parametrize("name", WHERE)
def test_where_chooses_the_sites(name: str) -> None:
    where, names = WHERE[name]
    model = small()
    assert [site.name for site in sites(model, where)] == names
    assert sites(model, where) == [Site(n, type(model.get_submodule(n))) for n in names]
    robustify(model, where=where)
    changed = [n for n, module in model.named_modules() if type(module).__name__.startswith("Perturbed")]
    assert changed == names


def test_input_noise_stands_after_a_first_normalize_and_else_before_the_network() -> None:
    x = torch.rand(300)
    after = robustify(Normalize(), eps=0.5, where="input")
    torch.testing.assert_close((after(x) - (x - 0.5)).abs(), 0.5 * (x - 0.5).abs())
    assert [site.name for site in sites(normalized(), "input")] == ["0"]
    before = robustify(nn.Sequential(nn.Identity()), eps=0.5, where="input")
    torch.testing.assert_close((before(x) - x).abs(), 0.5 * x)
    assert sites(nn.Sequential(small(), Normalize()), "input") == [Site("", nn.Sequential)]


def test_input_noise_meets_the_first_tensor_by_position_or_by_name() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, *, scale: int = 1, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            return x * scale, y

    net, x, y = robustify(Net(), eps=0.5, where="input"), torch.ones(50), torch.ones(50)
    for out, other in (net(x, scale=1, y=y), net(scale=1, x=x, y=y)):
        assert set(out.tolist()) == {0.5, 1.5}
        assert other is y
    with pytest.raises(TypeError, match="needs a tensor among the arguments"):
        net(scale=2)


def test_input_noise_of_named_modules_meets_what_enters_them() -> None:
    model = robustify(nn.Sequential(nn.ReLU(), nn.Linear(300, 2)), eps=0.5, where="1:input")
    seen = list[Tensor]()
    model[1].weight.data.fill_(1.0)  # type: ignore[operator]
    model[0].register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    x = torch.ones(300)
    out = model(x)
    assert torch.equal(seen[0], x)
    assert out[0] != model[1].bias[0] + 300  # type: ignore[index]
    assert 150 <= out[0] - model[1].bias[0] <= 450  # type: ignore[index]
    assert (model.eval()(x) - model[1].bias == 300).all()


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act, self.fc1, self.fc2 = nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(self.act(x))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("where", ["hidden", "both", ["hidden", "input"], ["hidden", "fc1"]])
def test_activations_called_as_functions_are_told_of_once(where: Where) -> None:
    count = 1 if "fc1" in where else 2  # type: ignore[operator]
    model = Functional() if count == 1 else nn.Sequential(Functional(), Functional())
    with pytest.warns(UserWarning, match="calls activations as functions, which where=") as caught:
        robustify(model, where=where)
    (warning,) = caught
    assert f"does not reach: {count} Functional (relu). " in str(warning.message)
    assert str(warning.message).endswith("resolute.unreached(model, example) tells for each what to add to where.")
    assert warning.filename == __file__


@pytest.mark.parametrize("where", ["input", "fc1", nn.ReLU, ["hidden", "fc2:input"], ["hidden", Functional]])
def test_no_word_of_functions_where_they_are_reached_or_not_asked_for(where: Where) -> None:
    assert is_robust(robustify(Functional(), where=where))


def test_input_of_integers_is_refused_with_advice() -> None:
    model = robustify(nn.Sequential(nn.Embedding(5, 4), nn.ReLU()), where="both")
    with pytest.raises(TypeError, match=r"perturb got torch.int64; .*Embed or cast"):
        model(torch.tensor([1, 2]))
    assert model.eval()(torch.tensor([1, 2])).shape == (2, 4)


def test_output_that_is_no_tensor_is_refused_with_advice() -> None:
    model = robustify(nn.Sequential(nn.LSTM(3, 4)), where=nn.LSTM)
    with pytest.raises(TypeError, match=r"perturb got tuple; .*returns one tensor"):
        model(torch.ones(2, 1, 3))


def test_one_module_can_be_input_and_hidden_site() -> None:
    assert strengths(robustify(nn.ReLU(), eps=0.5, where="both")) == {0.25, 0.75, 1.25}


def test_rectifiers_are_told_by_family_and_name_and_gates_are_not() -> None:
    from timm.layers import GELUTanh, HardSigmoid, SqueezeExcite, Swish  # type: ignore[attr-defined]

    rectifiers = [nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.SELU(), nn.Mish(), nn.Hardswish(), nn.PReLU(), nn.SiLU()]
    named = [QuickGELU(), GELUTanh(), Swish()]
    others = [
        nn.Sigmoid(),
        nn.Hardsigmoid(),
        HardSigmoid(),
        nn.Tanh(),
        nn.Softmax(-1),
        nn.GLU(),
        nn.Dropout(),
        nn.Identity(),
    ]
    model = nn.Sequential(*rectifiers, *named, *others, ReLUBlock(), SqueezeExcite(8))
    wanted = [str(i) for i in range(len(rectifiers) + len(named))] + ["19.act", "20.act"]
    assert [site.name for site in sites(model)] == wanted
    assert "20.gate" in dict(model.named_modules())
