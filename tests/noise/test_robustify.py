"""What robustify promises on every network: the noise, where it acts, what is refused, and PyTorch's other tools."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.nn.utils import parametrizations

from networks import NETWORKS, Shared, skeleton, small, strengths
from resolute.errors import InputError
from resolute.noise.perturb import perturb
from resolute.noise.robustify import attach, is_robust, robustify, set_eps, unrobustify
from resolute.noise.sites import Site, sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from networks import Network
    from resolute.noise.sites import Where


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
