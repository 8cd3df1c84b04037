"""What robustify promises on every network: the noise, where it acts, what is refused, and PyTorch's other tools."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import re
import warnings
from collections import OrderedDict, UserDict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torchvision
from torch import Tensor, fx, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.nn.utils import parametrizations, parametrize

from networks import NETWORKS, Shared, skeleton, small, strengths
from noise.samples import FORMS
from resolute.errors import InputError
from resolute.noise.baselines import gaussian
from resolute.noise.perturb import perturb
from resolute.noise.robustify import _Perturbed, attach, is_robust, robustify, set_eps, trust_statistics, unrobustify
from resolute.noise.sites import Site, sites
from resolute.noise.strength import strength
from resolute.noise.unreached import unreached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from networks import Network
    from resolute.noise.sites import Where


PAPERS: dict[str, Any] = {"form": "sign", "grain": "element", "spread": "fixed", "share": 1.0}


def test_eps_and_p_arrive() -> None:
    assert strengths(robustify(nn.ReLU(), eps=0.25)) == {0.25}
    x = torch.ones(100)
    assert (robustify(nn.ReLU(), eps=0.25, p=1.0)(x) == 1.25).all()
    assert (robustify(nn.ReLU(), eps=0.25, p=0.0)(x) == 0.75).all()


def test_a_second_robustify_replaces_the_first() -> None:
    model = robustify(nn.ReLU(), eps=0.1)
    own = type(model)
    robustify(model, eps=0.5, p=1.0)
    assert type(model) is own
    assert strengths(model) == {0.5}
    assert type(unrobustify(model)) is nn.ReLU


def test_input_and_hidden_may_differ() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    robustify(robustify(model, eps=0.5, p=1.0, where="input"), eps=0.25, p=1.0, where="hidden")
    assert strengths(model) == {0.875}


def test_a_shared_activation_stands_once_and_draws_at_each_call() -> None:
    model, x = robustify(Shared()), torch.ones(200)
    assert [site.name for site in sites(model)] == ["relu"]
    rows = torch.stack([model.relu(x) for _ in range(3)])
    assert len(rows.unique(dim=0)) == 3


def test_in_place_activations_work_and_have_the_right_gradient() -> None:
    x = torch.randn(50, 4, requires_grad=True)
    gradients = []
    for inplace in (False, True):
        torch.manual_seed(1)
        act = robustify(nn.Sequential(nn.Identity(), nn.ReLU(inplace)), eps=0.3)
        (gradient,) = torch.autograd.grad((act(x * 1) ** 2).sum(), x)
        gradients.append(gradient)
    assert torch.equal(*gradients)


def test_prelu_keeps_its_weight() -> None:
    act = robustify(nn.PReLU(3))
    assert list(act.state_dict()) == ["weight"]
    act(torch.randn(2, 3)).sum().backward()
    assert act.weight.grad is not None


def test_modules_in_evaluation_mode_stay_silent_in_a_model_that_trains() -> None:
    model = robustify(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU())), eps=0.5, p=1.0)
    x = torch.ones(10)
    model.train()
    model[1].eval()
    with pytest.warns(UserWarning, match="1 of its 2 modules with noise, such as '1.0', are in eval"):
        assert strengths(model, x) == {0.5}
    model[0].eval()
    assert strengths(model, x) == {0.0}


def test_set_eps_changes_every_site_and_zero_silences() -> None:
    model = robustify(nn.Sequential(nn.Identity(), nn.ReLU()), eps=0.1, p=1.0, where="both")
    assert set_eps(model, 0.5) is model
    assert strengths(model) == {1.25}
    assert strengths(set_eps(model, 0)) == {0.0}
    assert strengths(set_eps(model, 0.25)) == {0.5625}, "p is kept"


def test_set_eps_of_a_copy_leaves_the_original() -> None:
    model = robustify(nn.ReLU(), eps=0.5)
    set_eps(copy.deepcopy(model), 0.1)
    assert strengths(model) == {0.5}


def test_other_noise_can_be_attached() -> None:
    model = attach(nn.Sequential(nn.ReLU()), functools.partial(torch.mul, other=3))
    assert strengths(model) == {2.0}
    assert not is_robust(unrobustify(model))


def test_forward_hooks_see_the_perturbed_activation() -> None:
    act, seen = robustify(nn.ReLU(), eps=0.5), list[Tensor]()
    act.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    assert act(torch.ones(9)) is seen[0]


# Which sites `where` chooses


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
    wanted = [Site(n, type(model.get_submodule(n)), "output" if n else "input") for n in names]
    assert sites(model, where) == wanted
    robustify(model, 0.25, 0.75, where=where)
    assert sites(model) == sites(model, where)
    noise: dict[str, Any] = {
        "eps": 0.25,
        "p": 0.75,
        "form": "sign",
        "grain": "element",
        "spread": "fixed",
        "share": 1.0,
    }
    assert sites(model) == [replace(site, **noise) for site in wanted]
    assert [name for name, module in model.named_modules() if isinstance(module, _Perturbed)] == names


def test_input_noise_stands_after_a_first_normalize_and_else_before_the_network() -> None:
    x = torch.rand(300)
    after = robustify(Normalize(), eps=0.5, where="input")
    torch.testing.assert_close((after(x) - (x - 0.5)).abs(), 0.5 * (x - 0.5).abs())
    assert [site.name for site in sites(normalized(), "input")] == ["0"]
    before = robustify(nn.Sequential(nn.Identity()), eps=0.5, where="input")
    torch.testing.assert_close((before(x) - x).abs(), 0.5 * x)
    assert sites(nn.Sequential(small(), Normalize()), "input") == [Site("", nn.Sequential, "input")]


def test_input_noise_meets_the_first_tensor_by_position_or_by_name() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, *, scale: int = 1, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            return x * scale, y

    net, x, y = robustify(Net(), eps=0.5, where="input"), torch.ones(50), torch.ones(50)
    for out, other in (net(x, scale=1, y=y), net(scale=1, x=x, y=y)):
        assert set(out.tolist()) == {0.5, 1.5}
        assert other is y
    with pytest.raises(InputError, match=r"which of its arguments it is for is not certain; they are scale \(int\)\. "):
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
    with pytest.raises(InputError, match=r"are input \(torch.int64\)\. Name an inner module .* where='1:input'\.$"):
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


# Every network of `networks.NETWORKS`


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
    trust_statistics(model, watch=False)
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
    assert repr(model) != shown
    assert sites(model, "both") == [replace(site, eps=0.1, p=0.5, **PAPERS) for site in listed]
    assert unrobustify(model) is model
    assert sites(model, "both") == listed
    assert not is_robust(model)
    assert skeleton(model) == before
    assert repr(model) == shown


def test_unrobustify_leaves_a_plain_network_alone() -> None:
    model = small()
    before = skeleton(model)
    assert skeleton(unrobustify(model)) == before


# What is refused, before anything changes


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
    with pytest.raises(InputError, match=r"^a ParametrizedLinear had its class exchanged after robustify"):
        unrobustify(model)
    assert len([m for m in model if is_robust(m)]) == 3, "all or nothing"
    parametrize.remove_parametrizations(model[2], "weight")
    unrobustify(model)
    assert type(model[2]) is nn.Linear


def test_a_class_exchanged_before_comes_back() -> None:
    model = small()
    parametrizations.spectral_norm(model[2])
    before = skeleton(model)
    robustify(model, where=nn.Linear)(torch.rand(3, 4)).sum().backward()
    assert skeleton(unrobustify(model)) == before


# PyTorch's other tools: compiled, distributed, sharded, exported, traced


class Net(nn.Module):
    """A root with a forward of its own: torch.compile treats a bare nn.Sequential in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("order", ["robustify first", "compile first", "compiled and called first", "compile in place"])
def test_compiled_networks_are_perturbed(order: str) -> None:
    model, x = Net(), torch.rand(6, 4)
    plain, run = model(x), cast("nn.Module", model)
    if order == "robustify first":
        robustify(model, where="both")
    if order == "compile in place":
        model.compile(fullgraph=True, backend="eager")
    else:
        run = cast("nn.Module", torch.compile(model, fullgraph=True, backend="eager"))
    if order == "compiled and called first":
        torch.testing.assert_close(run(x), plain)
    robustify(run, where="both")
    assert len([m for m in model.modules() if is_robust(m) and not list(m.children())]) == 2
    first, second = run(x), run(x)
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert is_robust(pickle.loads(pickle.dumps(model)))
    torch.testing.assert_close(unrobustify(run)(x), plain)


@pytest.mark.usefixtures("compiler")
def test_a_schedule_of_eps_compiles_a_network_at_most_twice() -> None:
    graphs = []

    def backend(graph: fx.GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    model = robustify(nn.Sequential(nn.Identity(), nn.ReLU()), eps=0.1, p=1.0)
    run = cast("nn.Module", torch.compile(model, fullgraph=True, backend=backend))
    for eps in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75):
        set_eps(model, eps)
        assert strengths(run) == {eps}
    assert len(graphs) <= 2


@contextmanager
def single_process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("first", ["robustify", "wrap"])
def test_distributed_data_parallel_is_perturbed(first: str) -> None:
    x = torch.rand(6, 4)
    with single_process_group():
        if first == "robustify":
            model = nn.parallel.DistributedDataParallel(robustify(small(), where="both"))
        else:
            model = robustify(nn.parallel.DistributedDataParallel(small()), where="both")
        assert [site.name for site in sites(model, "both")] == ["module", "module.1", "module.3"]
        out = model(x)
        out.sum().backward()
        assert not torch.equal(out, model(x))
        assert type(unrobustify(model)) is nn.parallel.DistributedDataParallel
        assert not is_robust(model)


@pytest.mark.parametrize("first", ["robustify", "shard"])
def test_fully_sharded_networks_are_perturbed(first: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    x = torch.rand(6, 4)
    with single_process_group():
        model, mesh = small(), init_device_mesh("cpu", (1,))
        if first == "robustify":
            fully_shard(robustify(model, where="both"), mesh=mesh)
        else:
            fully_shard(model, mesh=mesh)
            robustify(model, where="both")
        out = model(x)
        out.sum().backward()
        assert not torch.equal(out, model(x))
        set_eps(model, 0)
        assert torch.equal(model(x), model(x))


def test_a_network_in_evaluation_mode_can_be_exported() -> None:
    model, x = robustify(small(), where="both").eval(), torch.rand(6, 4)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


def test_fx_traces_through_perturbed_activations() -> None:
    model, x = robustify(small()), torch.rand(6, 4)
    traced = fx.symbolic_trace(model)
    assert not torch.equal(traced(x), traced(x))
    assert torch.equal(traced.eval()(x), model.eval()(x))


# Which argument gets the noise of an input


class TargetsFirst(nn.Module):
    def forward(self, targets: Any, images: Any) -> tuple[Any, Any]:
        return targets, images


class Collated(nn.Module):
    """The signature of transformers' classifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.proj = nn.Embedding(9, 3), nn.Linear(3, 3)

    def forward(
        self, input_ids: Any = None, pixel_values: Any = None, labels: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        return {"input_ids": input_ids, "pixel_values": pixel_values, "labels": labels, **kwargs}


class Passing(Collated):
    def forward(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        given: dict[Any, Any] = dict(enumerate(args))
        return given | kwargs


class Wrapped(Collated):
    @functools.wraps(Collated.forward)
    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().forward(*args, **kwargs)


class OfBatch(nn.Module):
    def forward(self, batch: Any) -> Any:
        return batch


INTS, ONES = torch.ones(50, dtype=torch.int64), torch.ones(50)
CHOSEN: dict[str, tuple[type[nn.Module], tuple[Any, ...], dict[str, Any], Any]] = {
    "labels are no floats": (TargetsFirst, (), {"targets": INTS, "images": ONES}, 1),
    "labels are no floats, by position": (TargetsFirst, (INTS, ONES), {}, 1),
    "collator": (Collated, (), {"labels": INTS, "pixel_values": ONES}, "pixel_values"),
    "collator, soft labels": (Collated, (), {"labels": ONES, "pixel_values": ONES}, "pixel_values"),
    "collator, ids": (Collated, (), {"labels": INTS, "input_ids": INTS, "pixel_values": ONES}, "pixel_values"),
    "collator, by position": (Collated, (None, ONES), {"labels": ONES}, "pixel_values"),
    "functools.wraps": (Wrapped, (), {"labels": ONES, "pixel_values": ONES}, "pixel_values"),
    "**kwargs, one float": (Passing, (), {"labels": INTS, "images": ONES}, "images"),
    "*args": (Passing, (ONES, ONES), {"scale": ONES}, 0),
    "*args, ids first": (Passing, (INTS, ONES), {}, 1),
    "dict": (OfBatch, ({"labels": INTS, "x": ONES},), {}, "x"),
    "BatchEncoding": (OfBatch, (UserDict({"labels": INTS, "x": ONES}),), {}, "x"),
}


@pytest.mark.parametrize("where", ["input", ":input"])
@pytest.mark.parametrize("name", CHOSEN)
def test_noise_at_the_input_is_for_the_first_float_of_the_signature(name: str, where: str) -> None:
    kind, args, kwargs, chosen = CHOSEN[name]
    out = robustify(kind(), eps=0.5, where=where)(*args, **kwargs)
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    for key, value in out.items() if not isinstance(out, tuple) else enumerate(out):
        if key == chosen:
            assert set(value.tolist()) == {0.5, 1.5}
        elif value is not None and not isinstance(out, UserDict):
            assert value is given.get(key, value)
            assert (value == 1).all()
    assert all((value == 1).all() for value in given.values() if isinstance(value, Tensor)), "what came is left alone"


UNCERTAIN: dict[str, tuple[type[nn.Module], tuple[Any, ...], dict[str, Any], str]] = {
    "soft labels first": (TargetsFirst, (ONES, ONES), {}, "targets (torch.float32), images (torch.float32)"),
    "regression on ids": (Collated, (), {"input_ids": INTS, "labels": ONES}, "input_ids (torch.int64), labels"),
    "a mask of floats": (Collated, (), {"input_ids": INTS, "attention_mask": ONES}, "attention_mask (torch.float32)"),
    "**kwargs": (Passing, (), {"targets": ONES, "images": ONES}, "targets (torch.float32), images (torch.float32)"),
    "dict of two": (OfBatch, ({"x": ONES, "other": ONES},), {}, "x (torch.float32), other (torch.float32)"),
    "list": (OfBatch, ([ONES, ONES],), {}, "batch (list)"),
    "bytes": (OfBatch, (ONES.byte(),), {}, "batch (torch.uint8)"),
    "nothing": (Passing, (), {}, "they are none. Name"),
}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_a_choice_of_the_argument_that_is_not_certain_is_refused(name: str) -> None:
    kind, args, kwargs, came = UNCERTAIN[name]
    with pytest.raises(InputError) as caught:
        robustify(kind(), where="input")(*args, **kwargs)
    message = str(caught.value)
    assert message.startswith(f"noise at the input of {kind.__name__}: which of its arguments it is for is not certain")
    assert came in message
    assert message.endswith(f"such as where='{'NAME' if kind in {TargetsFirst, OfBatch} else 'proj'}:input'.")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrappers_of_pytorch_show_the_signature_of_the_network(wrap: Any) -> None:
    model = (
        wrap(Collated()) if wrap is not torch.compile else torch.compile(Collated(), fullgraph=True, backend="eager")
    )
    out = robustify(model, eps=0.5, where="input")(labels=ONES, pixel_values=ONES)
    assert set(out["pixel_values"].tolist()) == {0.5, 1.5}
    assert (out["labels"] == 1).all()


# What is told: the printed model, sites, warnings, refusals


def test_the_printed_model_tells_where_the_noise_is() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU(), nn.Linear(2, 2), nn.Sequential(nn.PReLU()))
    plain = repr(model)
    robustify(robustify(model, 0.25, where="0"), 0.5, 0.3, ["1", "2:input", nn.Sequential])
    attach(model, functools.partial(gaussian, eps=0.125), "3.0")
    assert repr(model) == (
        "PerturbedSequential(\n"
        "  eps=0.5, p=0.3\n"
        "  (0): PerturbedReLU(inplace=True, eps=0.25)\n"
        "  (1): PerturbedReLU(eps=0.5, p=0.3)\n"
        "  (2): PerturbedLinear(in_features=2, out_features=2, bias=True, input_eps=0.5, input_p=0.3)\n"
        "  (3): PerturbedSequential(\n"
        "    eps=0.5, p=0.3\n"
        "    (0): PerturbedPReLU(num_parameters=1, eps=0.125, form=gaussian)\n"
        "  )\n"
        ")"
    )
    assert [(s.name, s.side, s.eps, s.p, s.form) for s in sites(model)] == [
        ("", "output", 0.5, 0.3, "sign"), ("0", "output", 0.25, 0.5, "sign"), ("1", "output", 0.5, 0.3, "sign"),
        ("2", "input", 0.5, 0.3, "sign"),
        ("3", "output", 0.5, 0.3, "sign"), ("3.0", "output", 0.125, None, "gaussian"),
    ]  # fmt: skip
    assert repr(unrobustify(model)) == plain


def test_a_modules_own_attributes_are_left_alone() -> None:
    model = small()
    own = {"_noise": 0.3, "_own": 0.2}
    vars(model[1]).update(own)
    assert not is_robust(unrobustify(robustify(model)))
    assert own.items() <= vars(model[1]).items()


def test_sites_tells_what_is_not_perturbed() -> None:
    model = robustify(small(), where="2:input")
    assert [(s.name, s.side, s.eps) for s in sites(model)] == [("2", "input", 0.1)]
    assert [(s.name, s.eps, s.p, s.form) for s in sites(model, "hidden")] == [("1", *[None] * 3), ("3", *[None] * 3)]
    assert [(s.side, s.eps) for s in sites(model, ["2", "2:input"])] == [("output", None), ("input", 0.1)]


def test_set_eps_changes_the_places_that_are_named() -> None:
    model = robustify(small(), eps=0.5, where=["hidden", "2:input", "2"])

    def told() -> dict[str, float | None]:
        return {f"{s.name} {s.side}": s.eps for s in sites(model)}

    assert told() == {"1 output": 0.5, "2 output": 0.5, "2 input": 0.5, "3 output": 0.5}
    set_eps(model, 0.25, where="hidden")
    set_eps(model, 0.125, where=["2:input", None])
    assert told() == {"1 output": 0.25, "2 output": 0.5, "2 input": 0.125, "3 output": 0.25}
    set_eps(model, 0, where=lambda name, module: name == "1")
    set_eps(model, 0.75, where=nn.Linear)
    assert told() == {"1 output": 0.0, "2 output": 0.75, "2 input": 0.125, "3 output": 0.25}
    before = told()
    for where in ("0", ["hidden", "0:input"], "input", nn.Conv2d, "nothing"):
        with pytest.raises(
            InputError, match=r"names no place that carries noise\. Noise is at '1', '2:input', '2', '3'\.$"
        ):
            set_eps(model, 0.1, where=where)
    with pytest.raises(InputError, match=r"^where is empty"):
        set_eps(model, 0.1, where=[])
    assert told() == before, "all or nothing"


NO_NUMBERS: list[Any] = ["0.1", {}, None, True, [0.1], torch.tensor(0.1, requires_grad=True), 0.1j]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_refused(value: Any) -> None:
    model = robustify(small(), eps=0.25)
    wanted = f"{value!r}, a {type(value).__name__}; it must be a number such as 0.1."
    for call in (robustify, set_eps):
        with pytest.raises(InputError) as caught:
            call(model, value)
        assert str(caught.value) == f"eps is {wanted}"
    with pytest.raises(InputError) as caught:
        robustify(model, 0.1, value)
    assert str(caught.value) == f"p is {wanted}"
    assert {s.eps for s in sites(model)} == {0.25}


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), 0.25])
def test_numbers_of_numpy_are_numbers(number: Any) -> None:
    assert {(s.eps, s.p) for s in sites(robustify(small(), number, number))} == {(0.25, 0.25)}


@pytest.mark.parametrize("model", ["resnet18", None, torch.relu, nn.ReLU, {}], ids=lambda value: type(value).__name__)
def test_what_is_no_network_is_refused(model: Any) -> None:
    calls: list[Callable[[Any], Any]] = [robustify, unrobustify, is_robust, sites, lambda m: set_eps(m, 0.1)]
    for call in [*calls, lambda m: unreached(m, ONES)]:
        with pytest.raises(InputError) as caught:
            call(model)  # type: ignore[no-untyped-call]
        assert str(caught.value).startswith(f"the model is {model!r}; it must be a torch.nn.Module that is built")


@pytest.mark.parametrize(
    "where",
    [None, 3, {"hidden"}, {"a": 1}, ["hidden", 3], nn.ReLU(), torch.relu, b"1"],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_place_is_refused(where: Any) -> None:
    model = small()
    for call in (robustify, unreached, set_eps) if where is not None else (robustify,):
        with pytest.raises(InputError) as caught:
            call(robustify(small()) if call is set_eps else model, 0.1, where=where)
        assert str(caught.value).startswith(f"where is {where!r}; it must be 'hidden', ")
    assert not is_robust(model)


def nested() -> nn.Sequential:
    def block() -> nn.Sequential:
        return nn.Sequential(OrderedDict(linear=nn.Linear(4, 4), act=nn.ReLU()))

    layer = nn.Sequential(OrderedDict(a=block(), b=block()))
    return nn.Sequential(
        OrderedDict(layer1=layer, layer2=block(), tail=nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.ReLU()))
    )


BLOCKS: dict[str, tuple[str, int, str]] = {
    "layer1": ("Sequential", 2, "'layer1.*.act'"),
    "layer2": ("Sequential", 1, "'layer2.act'"),
    "layer?": ("Sequential", 3, "'layer?.*act'"),
    "tail": ("Sequential", 2, "['tail.1', 'tail.2']"),
    "": ("Sequential", 5, "['layer1.a.act', 'layer1.b.act', 'layer2.act', 'tail.1', 'tail.2']"),
}


@pytest.mark.parametrize("where", BLOCKS)
def test_a_name_of_a_block_says_that_it_is_the_blocks_output_that_gets_the_noise(where: str) -> None:
    kind, n, better = BLOCKS[where]
    model = nested()
    with pytest.warns(UserWarning, match="^where=") as caught:
        robustify(model, eps=0.25, where=where)
    (warning,) = caught
    assert str(warning.message) == (
        f"where={where!r} names a {kind}: the noise is put at its output and not at the activations inside ({n}). "
        f"For these, write where={better}. If the output is meant, name it by its type or by a function."
    )
    assert warning.filename == __file__
    assert {site.module_type for site in sites(model)} == {nn.Sequential}
    assert len(sites(robustify(nested(), where=eval(better)))) == n, "what it names is just these, and warns of nothing"


@pytest.mark.parametrize(
    "where",
    [
        "layer2.act", "layer2.linear", "layer2.*", "layer1:input", "input", "both", ["hidden", "layer1"], nn.Sequential,
        lambda name, _: name == "layer1",
    ],
)  # fmt: skip
def test_places_that_mean_what_they_say_warn_of_nothing(where: Where) -> None:
    assert is_robust(robustify(nested(), where=where))


# Parts that are kept in evaluation mode while the rest trains


class Transfer(nn.Module):
    def __init__(self, no_grad: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        self.no_grad = no_grad

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.no_grad):
            x = self.backbone(x)
        return self.head(x)  # type: ignore[no-any-return]


SILENT = r"^Transfer is in training mode, but 2 of its 3 modules with noise, such as '.*backbone\.2', are in eval\(\)"
WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "alone": lambda model: model,
    "in another module": lambda model: nn.Sequential(nn.Identity(), model),
    "compiled": lambda model: cast("nn.Module", torch.compile(model, fullgraph=True, backend="eager")),
    "compiled in place": lambda model: model.compile(fullgraph=True, backend="eager") or model,  # type: ignore[func-returns-value]
}


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("no_grad", [False, True])
def test_a_frozen_backbone_in_evaluation_mode_is_told_of_once(wrap: str, no_grad: bool) -> None:
    model = robustify(Transfer(no_grad), eps=0.5)
    run, x = WRAPS[wrap](model), torch.rand(5, 4)
    before = skeleton(model), list(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.eval()(x)
        run.train()(x)
        model.backbone.requires_grad_(False).eval()
    with pytest.warns(UserWarning, match=SILENT):
        run(x).sum().backward()
    run(x).sum().backward()
    assert (skeleton(model), list(model.state_dict())) == before, "nothing is left behind"
    if "compiled" not in wrap:
        robustify(model, eps=0.25)
        with pytest.warns(UserWarning, match=SILENT):
            model(x)


def test_what_the_warning_says_to_write_gives_noise_and_keeps_the_statistics() -> None:
    model, x = robustify(Transfer(), eps=0.5), torch.rand(5, 4)
    model.train()
    model.backbone.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    mean = model.backbone[1].running_mean.clone()  # type: ignore[operator]
    assert not torch.equal(model.backbone(x), model.backbone(x))
    assert torch.equal(model.backbone[1].running_mean, mean)  # type: ignore[arg-type]
    unrobustify(model.backbone).eval()
    model(x)


def test_ordinary_evaluation_warns_of_nothing() -> None:
    model, x = robustify(Transfer()), torch.rand(5, 4)
    model.train()
    robustify(nn.Sequential(gone := nn.ReLU()))  # a network that is gone leaves its module behind
    gone.eval()(x)
    features = nn.Sequential(*model.backbone).eval()
    assert model.training
    features(x)
    copy.deepcopy(model).eval()(x)
    for module in (model.eval(), nn.Sequential(model).eval()):
        module(x)
        with torch.no_grad():
            module(x)
    model.train()(x)


# Forms


def _timm(name: str) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, num_classes=3)
    return made


CHANNELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, int]]] = {
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Dropout(), nn.GELU()),
        (2, 3, 8, 8),
        {"1": -3, "4": -3},
    ),
    "one dimension": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU()), (2, 3, 8), {"1": -2}),
    "tokens": (lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU()), (2, 5, 4), {"2": -1}),
    "flattened": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.ReLU()), (2, 3, 8, 8), {"2": -3}),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU()), (2, 3, 8, 8), {"2": -3}),
    "shared": (torchvision.models.resnet50, (2, 3, 32, 32), {"relu": -3, "layer1.0.relu": -3}),
    "within BatchNorm": (lambda: _timm("tf_efficientnet_lite0"), (2, 3, 32, 32), {"blocks.1.0.bn2.act": -3}),
    "ConvNeXt": (lambda: _timm("convnext_atto.d2_in1k"), (2, 3, 64, 64), {"stages.0.blocks.0.mlp.act": -3}),
    "ConvNeXt, channels last": (lambda: _timm("convnext_tiny"), (2, 3, 64, 64), {"stages.0.blocks.0.mlp.act": -1}),
    "ViT": (lambda: _timm("vit_tiny_patch16_224"), (2, 3, 224, 224), {"blocks.0.mlp.act": -1}),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_signs_of_channels_lie_along_the_channels(name: str) -> None:
    build, shape, wanted = CHANNELS[name]
    model = robustify(build().train(), 0.5, grain="channel")
    model(torch.randn(shape)).sum().backward()  # refuses what has another number of channels
    dims = {site.name: site.channel_dim for site in sites(model)}
    assert wanted.items() <= dims.items()
    for place, dim in wanted.items():
        x = torch.ones(2, 7, 7) if dim == -1 else torch.ones(2, 7, 7, 7)[..., : 7 if dim == -3 else 1]
        noise = vars(model.get_submodule(place))["_resolute_noise"]["output"]
        free = replace(noise, groups=noise.groups._replace(channels=frozenset()))
        moved = free(x.squeeze(-1) if dim == -2 else x).movedim(dim, -1).flatten(1, -2)
        assert (moved == moved[:, :1]).all()
        assert len(moved[0, 0].unique()) == 2


@pytest.mark.parametrize("where", ["input", "both"])
def test_channels_of_what_enters_the_network(where: str) -> None:
    image = nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 3), nn.ReLU())
    assert {site.channel_dim for site in sites(robustify(image, where=where, grain="channel"))} == {-3}
    features = robustify(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU()), grain=("channel", 1), where=where)
    x = torch.ones(5, 3, 2, 2)
    features(x)
    with pytest.raises(InputError, match=r"at 'the model' is not certain.*grain=\('channel', 1\)"):
        robustify(nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU()), where=where, grain="channel")


def test_a_place_whose_channels_cannot_be_told_is_refused_before_anything_changes() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    with pytest.raises(InputError, match="where the channels are at '0' is not certain"):
        robustify(model, grain="channel")
    assert not is_robust(model)
    assert [site.channel_dim for site in sites(robustify(model, grain=("channel", -1)))] == [-1, -1]


class Turned(nn.Module):
    """Its activation gets channels elsewhere than its last layer left them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(x).transpose(1, 2))  # type: ignore[no-any-return]


def test_channels_elsewhere_than_the_layer_before_says_are_refused_at_the_first_step() -> None:
    model = robustify(Turned(), grain="channel")
    with pytest.raises(InputError, match=r"tensor of shape \[2, 6, 5\]; wanted are 6 at dimension -1"):
        model(torch.randn(2, 5, 4))
    robustify(model, grain=("channel", 1))(torch.randn(2, 5, 4))


def test_forms_are_told_and_shown_and_survive_copies_and_set_eps() -> None:
    model = robustify(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), 0.3, grain="channel", spread="random", share=0.3)
    set_eps(model, 0.2)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        (site,) = sites(each)
        assert (site.eps, site.grain, site.spread, site.share, site.channel_dim) == (0.2, "channel", "random", 0.3, -1)
    assert "PerturbedReLU(eps=0.2, grain=channel, spread=random, share=0.3, channel_dim=-1)" in str(model)
    (plain,) = sites(robustify(model))
    assert (plain.grain, plain.spread, plain.share, plain.channel_dim) == ("element", "fixed", 1.0, None)
    x = torch.randn(5, 4)
    assert torch.equal(model.eval()(x), unrobustify(copy.deepcopy(model))(x))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.usefixtures("compiler")
def test_forms_in_a_network_compile_once_for_any_eps(form: dict[str, Any]) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    eager = robustify(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.GELU()), 0.3, **form)
    net = torch.compile(eager, backend=counter, fullgraph=True)
    x = torch.randn(3, 3, 8, 8, requires_grad=True)
    for eps in (0.3, 0.1, 0.2):
        set_eps(eager, eps)
        results = []
        for model in (net, eager):
            torch.manual_seed(3)
            out = model(x)
            results.append((out, *torch.autograd.grad(out.square().sum(), x)))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("more", "ratio"),
    [
        ({}, 0.5),
        ({"ratio": 0.2}, 0.2),
        ({"where": "both", "p": 0.4}, 0.5),
        ({"where": "both", "grain": "channel", "spread": "random", "share": 0.7}, 0.5),
    ],
)
def test_auto_puts_in_the_eps_that_has_the_ratio(more: dict[str, Any], ratio: float) -> None:
    torch.manual_seed(0)
    images = torch.rand(32, 4)
    model = small()
    state, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert robustify(model, eps="auto", example=images, **more) is model
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    [eps] = {site.eps for site in sites(model)}
    assert {site.grain for site in sites(model)} == {more.get("grain", "element")}
    settings = {key: value for key, value in more.items() if key != "ratio"}
    assert eps is not None
    assert strength(unrobustify(model), images, eps=eps, **settings).ratio == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"eps": "auto"}, "measures on a batch: robustify"),
        ({"eps": 0.1, "ratio": 0.5}, "eps is 0.1; an example and a ratio are for eps='auto'"),
        ({"example": torch.rand(2, 3)}, "eps is 0.1; an example"),
        ({"eps": "automatic"}, "eps is 'automatic', a str"),
        ({"eps": "auto", "example": torch.rand(8, 3, 8, 8), "ratio": 0.0}, "ratio is 0.0"),
    ],
)
def test_auto_and_what_belongs_to_it(given: dict[str, Any], said: str) -> None:
    model = small()
    with pytest.raises(InputError, match=said):
        robustify(model, **given)
    assert not is_robust(model)


def deep(layers: int = 12) -> nn.Sequential:
    """BatchNorm networks whose activations are large beside their deviation, as pretrained ones have them."""
    torch.manual_seed(1)
    blocks = [nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU()) for _ in range(layers)]
    for block in blocks:
        nn.init.constant_(block.get_submodule("1").bias, 2.0)  # type: ignore[arg-type]
    return nn.Sequential(*blocks, nn.Linear(16, 3))


def test_the_first_training_step_tells_of_noise_that_drowns_the_signal() -> None:
    model, images = robustify(deep(), 0.3), torch.rand(64, 16)
    twin, generator = robustify(deep(), 0.3, example=None), torch.get_rng_state()
    model.eval()(images)
    with pytest.warns(UserWarning, match=r"the noise of eps 0.3 drowns the signal of this Sequential: it is") as caught:
        out = model.train()(images)
    told, fits = map(float, re.findall(r"it is ([\d.]+) times .* At eps ([\d.]+) it", str(caught[0].message))[0])
    assert told == pytest.approx(strength(deep(), images, eps=0.3).ratio, rel=0.1)
    assert strength(deep(), images, eps=fits).ratio == pytest.approx(0.5, rel=0.05)
    torch.set_rng_state(generator)
    set_eps(twin, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(twin(images), out)
    assert all(torch.equal(own, other) for own, other in zip(model.buffers(), twin.buffers(), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(images)  # once only


def test_the_first_training_step_tells_so_of_any_form() -> None:
    model, images = robustify(deep(), 0.9, grain="channel", share=0.5), torch.rand(64, 16)
    with pytest.warns(UserWarning, match=r"the noise of eps 0.9 drowns the signal") as caught:
        model(images)
    [fits] = map(float, re.findall(r"At eps ([\d.]+) it", str(caught[0].message)))
    assert strength(deep(), images, fits, grain="channel", share=0.5, draws=30).ratio == pytest.approx(0.5, rel=0.2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("how", ["weak", "auto", "hooked", "alike", "few", "one", "part", "compiled", "uncopyable"])
def test_it_is_silent_where_the_noise_is_weak_or_a_look_could_disturb(how: str) -> None:
    model, images = deep(), torch.rand(64, 16)
    if how == "auto":
        robustify(model, "auto", example=images, ratio=3.0)
    else:
        robustify(model, 0.02 if how == "weak" else 0.3)
    seen: list[Any] = []
    if how == "hooked":
        model[3].register_forward_hook(lambda *_: seen.append(1))
    if how == "uncopyable":
        vars(model)["cache"] = torch.ones(2, requires_grad=True) * 2
    images = torch.ones(64, 16) if how == "alike" else images
    run = torch.compile(model, backend="eager") if how == "compiled" else model[:4] if how == "part" else model
    if how == "one":
        model.eval().get_submodule("0.2").train()
    run(images[: {"one": 1, "few": 7}.get(how)])
    assert len(seen) == (how == "hooked")


def test_autocast_keeps_no_weight_without_its_gradient_from_that_look() -> None:
    model = robustify(deep(2), 0.9)
    with pytest.warns(UserWarning, match="drowns"), torch.autocast("cpu", torch.bfloat16):
        loss = model(torch.rand(64, 16)).sum()
    loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())
