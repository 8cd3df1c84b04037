"""The equation, its signs, its gradient, the module and the perturbed activations, against slower truths."""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import shutil
import warnings
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import fuzz_op
import reference
from networks import NETWORKS
from noise.samples import DTYPES, FORMS, LAYOUTS, SIGMA, correlation, drawn
from resolute.errors import InputError, check_strength
from resolute.noise import kernels, signs
from resolute.noise import perturb as op
from resolute.noise.kernels import cpu
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import robustify, set_eps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HALVES = (torch.float16, torch.bfloat16)
EPS = (0.01, 0.1, 0.5, 0.9, 0.99)
FLOAT_ROUNDING = Fraction(3, 2)  # of the factor 1 + eps * l and of its product with x: within a neighbour of the truth
HALF_ROUNDING = 0.501  # once, from float32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("eps", EPS)
def test_moves_x_by_eps_times_its_size_to_the_last_bit(dtype: torch.dtype, eps: float) -> None:
    x = (torch.randn(2000, dtype=torch.float64) * torch.exp2(torch.empty(2000).uniform_(-12, 12))).to(dtype)
    g = perturb(x, eps)
    assert g.dtype == dtype
    bound = HALF_ROUNDING if dtype in HALVES else FLOAT_ROUNDING
    for before, after, s in zip(x.tolist(), g.tolist(), drawn(x, g).tolist(), strict=True):
        truth = reference.perturbed(before, eps, int(s))
        error = abs(Fraction(after) - truth) / reference.last_place(max(abs(before), abs(after)), dtype)
        assert error <= bound


@pytest.mark.parametrize("dtype", HALVES)
def test_every_half_precision_number_is_rounded_once(dtype: torch.dtype) -> None:
    x = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    g = perturb(x, 0.1)
    assert torch.equal(g.isnan(), x.isnan())
    assert torch.equal(g[x.isinf()], x[x.isinf()])
    normal = x.isfinite() & (x.abs() >= torch.finfo(dtype).tiny * 2) & (x.abs() < torch.finfo(dtype).max * 0.9)
    x, g = x[normal], g[normal]
    up, down = x.double() * 1.1, x.double() * 0.9
    wanted = torch.where(g.abs() > x.abs(), up, down)
    place = torch.exp2(g.double().abs().log2().floor()) * torch.finfo(dtype).eps
    assert float(((g.double() - wanted).abs() / place).max()) <= HALF_ROUNDING


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.3, 0.5])
def test_zero_and_infinity_stay_and_signs_are_kept(dtype: torch.dtype, p: float) -> None:
    info = torch.finfo(dtype)
    edge = [0.0, -0.0, float("inf"), -float("inf"), info.tiny, -info.tiny, info.smallest_normal / 2, info.max / 2]
    x = torch.tensor(edge, dtype=dtype).repeat(50)
    g = perturb(x, 0.9, p)
    stays = (x == 0) | x.isinf()
    assert torch.equal(g[stays], x[stays])
    assert torch.equal(g.signbit(), x.signbit())
    assert not g.isnan().any()
    assert perturb(torch.tensor([float("nan")], dtype=dtype)).isnan().all()


def test_subnormal_numbers_move_as_far_as_their_spacing_allows() -> None:
    x = torch.arange(1, 2000, dtype=torch.float64) * 5e-324
    g = perturb(x, 0.25)
    assert float(((g - x).abs() / 5e-324 - 0.25 * x / 5e-324).abs().max()) <= 0.5


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_mean_and_variance_are_those_of_the_equation(p: float) -> None:
    n, eps, x = 10**6, 0.3, -2.0
    moves = perturb(torch.full((n,), x, dtype=torch.float64), eps, p) - x
    mean, variance = eps * (2 * p - 1) * abs(x), 4 * p * (1 - p) * eps**2 * x**2
    assert abs(float(moves.mean()) - mean) < SIGMA * (variance / n) ** 0.5
    assert float(moves.var()) == pytest.approx(variance, rel=0.01)


def test_without_eps_x_itself_comes_back_and_nothing_is_drawn() -> None:
    x = torch.randn(5)
    state = torch.get_rng_state()
    assert perturb(x, 0) is x
    assert torch.equal(torch.get_rng_state(), state)


# The signs


WORST = 5.0
"""As SIGMA, for the worst of hundreds."""


def fresh_signs(n: int, p: float = 0.5) -> Tensor:
    x = torch.ones(n)
    return drawn(x, perturb(x, 0.1, p))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("p", [0.5, 0.3, 0.0, 1.0])
def test_signs_are_those_of_plain_integers_in_memory_order(layout: str, p: float) -> None:
    x = LAYOUTS[layout]()
    wanted = reference.signs(x, reference.next_seed(), p)
    g = perturb(x, 0.1, p)
    assert torch.equal(drawn(x, g), wanted)
    assert g.shape == x.shape
    assert g.dtype == x.dtype
    wanted_strides = torch.relu(x).stride()
    assert all(a == b for a, b, size in zip(g.stride(), wanted_strides, x.shape, strict=True) if size > 1)


def test_the_same_memory_gets_the_same_signs_whatever_its_shape() -> None:
    rows = torch.randn(2, 7, 5, 3)
    channels_last = rows.permute(0, 3, 1, 2)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    results = []
    for x in (rows, channels_last, rows.view(-1), rows.view(10, 21)):
        torch.manual_seed(1)
        results.append(perturb(x, 0.1))
    assert torch.equal(results[1], results[0].permute(0, 3, 1, 2))
    assert torch.equal(results[2], results[0].view(-1))
    assert torch.equal(results[3], results[0].view(10, 21))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_plus_comes_as_often_as_p_says(p: float) -> None:
    n = 10**7
    plus = sum(int((fresh_signs(n // 10, p) > 0).sum()) for _ in range(10))
    assert abs(plus - n * p) <= SIGMA * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("lag", [1, 2, 31, 32, 33, 1023, 1024, 1025, 32768])
def test_neighbouring_elements_are_independent(lag: int, p: float) -> None:
    s = fresh_signs(2**20, p)
    assert abs(correlation(s[lag:], s[:-lag], p)) < SIGMA


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_calls_and_ranks_are_independent(p: float) -> None:
    rows = [fresh_signs(2**18, p) for _ in range(4)]
    for rank in range(4):
        torch.manual_seed(1000 + rank)
        rows.append(fresh_signs(2**18, p))
    for i, a in enumerate(rows):
        for b in rows[:i]:
            assert abs(correlation(a, b, p)) < SIGMA


def test_bits_of_a_word_and_words_of_a_block_are_independent() -> None:
    s = fresh_signs(2**22).view(-1, 32, 32)  # block, bit, word
    for rows in (s.movedim(1, 0).reshape(32, -1), s.movedim(2, 0).reshape(32, -1)):
        z = rows @ rows.T / rows.shape[1] ** 0.5
        assert float(z.fill_diagonal_(0).abs().max()) < WORST


def test_runs_of_eight_signs_are_uniform() -> None:
    s = (fresh_signs(2**22) > 0).view(-1, 8)
    count = torch.bincount((s * 2 ** torch.arange(8)).sum(1), minlength=256)
    expected = len(s) / 256
    chi_square = float(((count - expected) ** 2 / expected).sum())
    assert abs(chi_square - 255) < SIGMA * (2 * 255) ** 0.5


def test_manual_seed_repeats_the_noise_and_each_call_draws_afresh() -> None:
    x = torch.randn(100)
    torch.manual_seed(3)
    first, second = perturb(x), perturb(x)
    torch.manual_seed(3)
    assert torch.equal(perturb(x), first)
    assert torch.equal(perturb(x), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_a_call_takes_as_much_from_the_generator_whatever_the_size(p: float) -> None:
    after = []
    for n in (1, 5000):
        torch.manual_seed(0)
        perturb(torch.ones(n), 0.1, p)
        after.append(torch.get_rng_state())
    assert torch.equal(after[0], after[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_signs_are_the_same_on_every_device(p: float) -> None:
    seed, level = torch.tensor(-(2**62) - 12345), signs.level(p)
    assert torch.equal(signs.draw(seed.cuda(), 5000, level).cpu(), signs.draw(seed, 5000, level))
    x = torch.randn(100, device="cuda")
    assert perturb(x, 0.1, p).device == x.device


# The gradient


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_gradient_is_that_of_the_formula_with_l_held_constant(p: float) -> None:
    x = torch.randn(3, 500, dtype=torch.float64, requires_grad=True)
    g = perturb(x, 0.3, p)
    weight = torch.randn_like(x)
    (actual,) = torch.autograd.grad((g * weight).sum(), x)
    noise = drawn(x, g) * x.detach().sign()
    (wanted,) = torch.autograd.grad(((x + 0.3 * x * noise) * weight).sum(), x)
    torch.testing.assert_close(actual, wanted, rtol=1e-15, atol=0)


def test_gradient_is_that_of_finite_differences_and_so_is_its_own() -> None:
    def fixed(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return perturb(x, 0.3)

    x = (torch.rand(4, 5, dtype=torch.float64) + 0.1) * torch.tensor([1.0, -1, 1, -1, 1])
    x.requires_grad_()
    assert torch.autograd.gradcheck(fixed, (x,))
    assert torch.autograd.gradgradcheck(fixed, (x,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivative_is_one_at_zero(dtype: torch.dtype) -> None:
    x = torch.zeros(100, dtype=dtype, requires_grad=True)
    perturb(x, 0.3).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert (x.grad == 1).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_backward_meets_the_signs_of_forward(layout: str) -> None:
    x = LAYOUTS[layout]().requires_grad_()
    g = perturb(x, 0.25, 0.4)
    (grad,) = torch.autograd.grad(g.sum(), x)
    torch.testing.assert_close(grad * x, g)


@pytest.mark.parametrize("layout", ["channels last", "permuted"])
@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.GELU])
def test_backward_meets_the_signs_of_forward_though_what_is_kept_comes_back_contiguous(
    act: type[nn.Module], layout: str
) -> None:
    """As it does from ``torch.autograd.graph.save_on_cpu`` with pinned memory."""
    x = LAYOUTS[layout]().requires_grad_()
    model = robustify(nn.Sequential(act(), nn.Linear(x.shape[-1], 3)), 0.3)
    model.insert(1, Perturb(0.3))
    gradients: list[Tensor] = []
    for pack in (lambda t: t, lambda t: t.contiguous()):
        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            out = model(x).square().sum()
        gradients += torch.autograd.grad(out, x)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_only_x_and_eight_bytes_are_kept_for_backward(p: float) -> None:
    kept: list[int] = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t.nbytes)
        return t

    x = torch.randn(64, 100, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        perturb(x, 0.1, p)
    assert sorted(kept) == [8, x.nbytes]


# The module `Perturb`


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


# What is refused, and what warns


@pytest.fixture
def unwarned() -> Iterator[None]:
    op._warn_lost.cache_clear()
    yield
    op._warn_lost.cache_clear()


@pytest.mark.parametrize("eps", [1.0, -0.1, float("nan"), float("inf"), -float("inf"), 8])
def test_eps_out_of_range_is_refused(eps: float) -> None:
    for call in (lambda: perturb(torch.ones(1), eps), lambda: Perturb(eps), lambda: check_strength(eps)):
        with pytest.raises(InputError, match=rf"^eps is {eps}; it must be at least 0 and below 1\."):
            call()


@pytest.mark.parametrize("p", [1.01, -0.1, float("nan")])
def test_p_out_of_range_is_refused(p: float) -> None:
    for call in (lambda: perturb(torch.ones(1), 0.1, p), lambda: Perturb(0.1, p)):
        with pytest.raises(ValueError, match=rf"^p is {p}; it is a probability, from 0 to 1\."):
            call()


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_tensors_that_are_not_floating_point_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"^perturb got {dtype}; it wants a floating-point tensor\."):
        perturb(torch.ones(2, dtype=dtype))


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^perturb got tuple; .* returns one tensor"):
        perturb((torch.ones(2), None))  # type: ignore[arg-type]


@pytest.mark.usefixtures("unwarned")
def test_noise_below_the_resolution_warns_also_within_an_activation() -> None:
    with pytest.warns(RuntimeWarning, match=r"the resolution of torch\.bfloat16"):
        robustify(nn.GELU(), 0.001)(torch.randn(10, dtype=torch.bfloat16))


@pytest.mark.parametrize(("dtype", "lost"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.usefixtures("unwarned")
def test_noise_below_the_resolution_of_the_dtype_warns_once(dtype: torch.dtype, lost: float) -> None:
    x = torch.randn(1000).to(dtype)
    assert not torch.equal(perturb(x, lost), x)
    with pytest.warns(RuntimeWarning, match=rf"eps is below 0\.\d+, the resolution of {dtype}: .*the plain network"):
        perturb(x, lost * 0.99)
    assert torch.equal(perturb(x, lost * 0.49), x), "the warning came twice or the noise does not vanish"
    perturb(x.float(), lost * 0.49)


# Checkpointing, torch.func, torch.compile, autocast


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_draws_the_same_noise_again(reentrant: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 50), Perturb(0.5), nn.Linear(50, 50), Perturb(0.5, 0.3), nn.Linear(50, 1))
    x = torch.randn(9, 6, requires_grad=True)

    def gradients(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        torch.manual_seed(5)
        leaves = [x, *net.parameters()]
        for leaf in leaves:
            leaf.grad = None
        run(x).pow(2).sum().backward()
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    plain = gradients(net)
    again = gradients(lambda x: checkpoint(net, x, use_reentrant=reentrant))
    other = gradients(lambda x: checkpoint(net, x, use_reentrant=reentrant, preserve_rng_state=False))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_vmap_draws_for_each_sample(p: float) -> None:
    x = torch.randn(1, 40, dtype=torch.float64).expand(30, 40)
    for function, wanted in (
        (lambda t: perturb(t, 0.1, p), 0.1 * x.abs()),
        (torch.func.grad(lambda t: perturb(t, 0.1, p).pow(2).sum() / 2), None),
    ):
        out = torch.func.vmap(function, randomness="different")(x)
        assert len(out.unique(dim=0)) == 30
        if wanted is not None:
            torch.testing.assert_close((out - x).abs(), wanted)
        else:
            factor = (out / x).sqrt()  # of grad g^2 / 2 = x (1 + eps l)^2
            torch.testing.assert_close((factor - 1).abs(), torch.full_like(x, 0.1))


def test_functional_call_and_func_grad() -> None:
    net = nn.Sequential(nn.Linear(4, 8), Perturb(0.1), nn.Linear(8, 1))
    weights: dict[str, Tensor] = dict(net.named_parameters())
    x = torch.randn(5, 4)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(1)
        return torch.func.functional_call(net, weights, (x,)).sum()  # type: ignore[no-any-return]

    functional = torch.func.grad(loss)(weights)
    loss(weights).backward()
    for name, weight in weights.items():
        assert weight.grad is not None
        torch.testing.assert_close(functional[name], weight.grad)


def check_compiled(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(300, 100, requires_grad=True)
    first, second = function(x), function(x)
    (grad,) = torch.autograd.grad(first.sum(), x)
    assert abs(correlation(drawn(x, first).flatten(), drawn(x, second).flatten())) < SIGMA
    torch.testing.assert_close((first - x).abs(), 0.1 * x.abs())
    torch.testing.assert_close(grad * x, first)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_into_one_graph(backend: str) -> None:
    function = torch.compile(lambda x: perturb(x, 0.1), fullgraph=True, backend=backend)
    check_compiled(function)
    torch.manual_seed(7)
    x = torch.randn(6, 100)
    compiled = function(x)
    torch.manual_seed(7)
    torch.randn(6, 100)
    torch.testing.assert_close(compiled, perturb(x, 0.1))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
@pytest.mark.usefixtures("compiler")
def test_compiles_to_machine_code_without_writing_out_the_hash_at_each_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor walks through some 7,000 operations; 85,000 where each step of the hash doubles the one before."""
    run_node, walked = torch.fx.Interpreter.run_node, itertools.count()

    def counted(self: torch.fx.Interpreter, node: torch.fx.Node) -> Any:
        next(walked)
        return run_node(self, node)

    monkeypatch.setattr(torch.fx.Interpreter, "run_node", counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of itself
        check_compiled(torch.compile(lambda x: perturb(x, 0.1), fullgraph=True))
    assert 1000 < next(walked) < 15_000


def test_autocast_keeps_the_dtype_that_it_chose() -> None:
    net = nn.Sequential(nn.Linear(8, 16), Perturb(0.1), nn.Linear(16, 2))
    seen: list[Tensor] = []
    net[1].register_forward_hook(lambda _, inputs, out: seen.extend((*inputs, out)))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(4, 8)).sum().backward()
    x, g = (t.detach().double() for t in seen)
    assert {t.dtype for t in seen} == {torch.bfloat16}
    torch.testing.assert_close((g - x).abs(), 0.1 * x.abs(), rtol=0.05, atol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


# Perturbed activations against the noise put after the plain ones


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "leaky relu": lambda: nn.LeakyReLU(0.2),
    "leaky relu in place": lambda: nn.LeakyReLU(0.2, inplace=True),
    "leaky relu that turns": lambda: nn.LeakyReLU(-0.2),
    "relu6": nn.ReLU6,
    "relu6 in place": lambda: nn.ReLU6(inplace=True),
    "elu": lambda: nn.ELU(0.7),
    "elu by its result": lambda: nn.ELU(0.7, inplace=True),
    "celu": lambda: nn.CELU(0.75),
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU(approximate="tanh"),
    "gelu of timm": timm.layers.GELU,
    "gelu by tanh of timm": timm.layers.GELUTanh,
    "silu": nn.SiLU,
    "silu in place": lambda: nn.SiLU(inplace=True),
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "hardswish in place": lambda: nn.Hardswish(inplace=True),
    "prelu": nn.PReLU,
    "softplus": nn.Softplus,
}
IN_PLACE = [name for name in ACTIVATIONS if name.endswith("in place")]
KEEPS_MORE = {"leaky relu that turns", "elu by its result", "prelu", "softplus"}

has_build = pytest.mark.skipif(cpu.compiled() is None, reason="no C++ compiler")


def robust(name: str, eps: float = 0.3, p: float = 0.4) -> nn.Module:
    return robustify(ACTIVATIONS[name](), eps, p, where=lambda name, module: True)


def in_two_steps(name: str) -> Callable[[Tensor], Tensor]:
    plain = ACTIVATIONS[name]()
    return lambda x: perturb(plain(x), 0.3, 0.4)


def seeded(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    torch.manual_seed(3)
    return function(x * 1)


def kept(function: Callable[[Tensor], Tensor], x: Tensor) -> dict[int, int]:
    """Give the bytes that backward keeps, by the address of their storage; x * 1 alone keeps nothing."""
    storages: dict[int, int] = {}
    tensors: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        tensors.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = function(x * 1)
        nn.functional.linear(out, torch.ones(1, out.shape[-1], requires_grad=True))
    return storages


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "sliced"])
def test_is_the_noise_after_the_activation(name: str, layout: str) -> None:
    x = 4 * torch.randn(3, 4, 9, 11)
    x = {"contiguous": x, "channels last": x.to(memory_format=torch.channels_last), "sliced": x[:, 1:, ::2]}[layout]
    x.requires_grad_()
    actual, wanted = seeded(robust(name), x), seeded(in_two_steps(name), x)
    torch.testing.assert_close(actual, wanted)
    weight = torch.randn_like(wanted)
    (actual_grad,) = torch.autograd.grad((actual * weight).sum(), x)
    (wanted_grad,) = torch.autograd.grad((wanted * weight).sum(), x)
    torch.testing.assert_close(actual_grad, wanted_grad)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_those_of_finite_differences_twice(name: str) -> None:
    act = robust(name).double()
    x = torch.tensor([-5.0, -2.0, -1.0, -0.3, 0.4, 1.3, 2.5, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: seeded(act, x), (x,))
    assert torch.autograd.gradgradcheck(lambda x: seeded(act, x), (x,))


@has_build
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in KEEPS_MORE])
def test_keeps_the_bytes_that_the_activation_keeps_and_a_seed(name: str) -> None:
    x = torch.randn(64, 100, requires_grad=True)
    base, noisy = kept(ACTIVATIONS[name](), x), kept(robust(name), x)
    assert sum(noisy.values()) == sum(base.values()) + 8


@pytest.mark.parametrize("name", IN_PLACE)
def test_writes_in_place_where_the_activation_does(name: str) -> None:
    x = torch.randn(50, 40)
    assert robust(name)(x) is x
    torch.manual_seed(0)
    x, y = torch.randn(50, 40).t(), torch.randn(50, 40)
    assert robust(name)(x).data_ptr() == x.data_ptr()
    view = y[::2, 3:]
    out = robust(name)(view)
    assert torch.equal(out, y[::2, 3:])


def test_in_place_refuses_a_leaf_as_the_activation_does() -> None:
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        robust("relu in place")(torch.randn(3, requires_grad=True))


@has_build
@pytest.mark.parametrize("name", ["relu", "gelu", "relu in place", "leaky relu"])
def test_is_the_same_without_the_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(40, 50, requires_grad=True)
    results = []
    for choose in (kernels.choose, lambda *_: None):
        monkeypatch.setattr(kernels, "choose", choose)
        out = seeded(robust(name), x)
        results.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "gelu", "leaky relu"])
def test_vmap_and_functional_gradients(name: str) -> None:
    act, x = robust(name, p=0.5), torch.rand(1, 40).expand(20, 40) + 0.1
    out = torch.func.vmap(torch.func.grad(lambda row: act(row).sum()), randomness="different")(x)
    assert len(out.unique(dim=0)) == 20
    plain = torch.func.grad(lambda row: ACTIVATIONS[name]()(row).sum())(x)
    torch.testing.assert_close((out / plain - 1).abs(), torch.full_like(out, 0.3))


def test_eps_of_zero_is_the_activation_and_draws_nothing() -> None:
    act, x = robust("relu"), torch.randn(20)
    set_eps(act, 0)
    state = torch.get_rng_state()
    assert torch.equal(act(x), torch.relu(x))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", ["relu", "relu in place", "gelu", "leaky relu", "hardswish in place"])
def test_compiles_into_one_graph_that_takes_any_eps(name: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    linear, act = nn.Linear(50, 50), robust(name)
    eager = nn.Sequential(linear, act)
    net = torch.compile(eager, backend=counter, fullgraph=True)
    x = torch.randn(40, 50, requires_grad=True)
    for eps in (0.3, 0.1, 0.2, 0.3):
        set_eps(act, eps)
        torch.manual_seed(3)
        out = net(x)
        torch.manual_seed(3)
        wanted = eager(x)
        torch.testing.assert_close(out, wanted)
        grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (out, wanted)]
        torch.testing.assert_close(*grads)
    assert counter.frame_count == 1


# Forward mode


POINT = torch.tensor([-5.0, -2.0, -1.0, -0.3, 0.4, 1.3, 2.5, 7.0], dtype=torch.float64)
LAYERS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "perturb": lambda: Perturb(0.3),
    **{name: functools.partial(robust, name, p=0.5) for name in ACTIVATIONS},
}


def repeated(name: str) -> Callable[[Tensor], Tensor]:
    layer = LAYERS[name]()
    if isinstance(layer, nn.Module):
        layer.double()
    return lambda x: seeded(layer, x)


@pytest.mark.parametrize("name", LAYERS)
def test_forward_mode_is_double_backward(name: str) -> None:
    function, direction = repeated(name), torch.linspace(-1, 2, 8, dtype=torch.float64)
    value, wanted = torch.autograd.functional.jvp(function, POINT, direction)
    actual = torch.func.jvp(function, (POINT,), (direction,))
    torch.testing.assert_close(actual, (value, wanted), rtol=1e-14, atol=0)
    jacobian = torch.func.jacfwd(function, randomness="same")(POINT)
    torch.testing.assert_close(jacobian @ direction, wanted, rtol=1e-14, atol=0)
    for requires_grad in (False, True):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(POINT.clone().requires_grad_(requires_grad), direction)
            torch.testing.assert_close(tuple(forward_ad.unpack_dual(function(dual))), actual, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_hessians_are_the_same_in_every_mode(name: str) -> None:
    function = repeated(name)

    def loss(x: Tensor) -> Tensor:
        return function(x).pow(3).sum()

    wanted = torch.autograd.functional.hessian(loss, POINT)
    over_reverse = torch.func.jacfwd(torch.func.jacrev(loss), randomness="same")(POINT)
    over_forward = torch.func.jacrev(torch.func.jacfwd(loss, randomness="same"))(POINT)
    for actual in (over_reverse, over_forward):
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


def test_each_sample_of_a_vmap_has_a_tangent_of_its_own() -> None:
    def tangent(row: Tensor) -> Tensor:
        return torch.func.jvp(lambda x: perturb(x, 0.3), (row,), (torch.ones_like(row),))[1]  # type: ignore[no-any-return]

    x = torch.randn(20, 40, dtype=torch.float64)
    out = torch.func.vmap(tangent, randomness="different")(x)
    assert len(out.unique(dim=0)) == 20
    torch.testing.assert_close((out - 1).abs(), torch.full_like(x, 0.3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["perturb", "relu", "relu in place", "gelu", "leaky relu"])
def test_values_with_a_tangent_are_those_without_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    layer, x = LAYERS[name](), torch.randn(2000).to(dtype)
    with forward_ad.dual_level():
        assert torch.equal(seeded(layer, forward_ad.make_dual(x, torch.ones_like(x))), seeded(layer, x))


@pytest.mark.usefixtures("compiler")
def test_forward_mode_compiles() -> None:
    def tangent(x: Tensor) -> Tensor:
        return torch.func.jvp(lambda x: perturb(x, 0.3), (x,), (torch.ones_like(x),))[1]  # type: ignore[no-any-return]

    x = torch.randn(50)
    out = torch.compile(tangent, backend="aot_eager")(x)
    torch.testing.assert_close((out - 1).abs(), torch.full_like(x, 0.3))


# In-place operations before and after: values, gradients and errors of plain operations


@pytest.mark.parametrize("act", ["perturb", *fuzz_op.KNOWN, *fuzz_op.UNKNOWN])
@pytest.mark.filterwarnings("ignore")
def test_trains_and_raises_as_plain_operations_do(act: str) -> None:
    """Each use of x before and after, each follower, in place or not, frozen or trainable."""
    product = itertools.product([False, True], ["frozen", "leaf", "computed"], fuzz_op.USES, fuzz_op.FOLLOWERS)
    for number, (inplace, source, use, follower) in enumerate(product):
        how = (source, use, follower, False, False, False, 0.3, 0.5)
        case = fuzz_op.Case(number, act, inplace, torch.float32, "contiguous", *how)
        if fuzz_op.answered(case):
            assert fuzz_op.fault(case) is None, case


@pytest.mark.filterwarnings("ignore")
def test_random_networks_do_what_plain_operations_do() -> None:
    cases = [case for number in range(500) if fuzz_op.answered(case := fuzz_op.drawn(number))]
    assert len(cases) > 250
    for case in cases:
        assert fuzz_op.fault(case) is None, case


@pytest.mark.parametrize("name", [*IN_PLACE, "elu by its result"])
def test_a_frozen_activation_is_not_overwritten_unnoticed(name: str) -> None:
    h, adapter = torch.randn(4, 5), torch.randn(5, 5, requires_grad=True)
    kept = h @ adapter
    robust(name)(h)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_leaf_that_is_refused_is_not_overwritten(name: str) -> None:
    leaf = torch.randn(6, requires_grad=True)
    before = leaf.detach().clone()
    for x in (leaf, leaf[:3]):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            robust(name)(x)
    assert torch.equal(leaf, before)


@pytest.mark.parametrize("way", ["float32", "bfloat16", "channels last"])
@pytest.mark.parametrize("build", [torchvision.models.mobilenet_v3_small, torchvision.models.mobilenet_v3_large])
def test_mobilenet_v3_trains(build: Callable[[], nn.Module], way: str) -> None:
    order = torch.channels_last if way == "channels last" else torch.contiguous_format
    model = robustify(build().train(), 0.1).to(memory_format=order)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    before = [weight.detach().clone() for weight in model.parameters()]
    with torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"):
        out = model(torch.rand(2, 3, 64, 64).to(memory_format=order))
    nn.functional.cross_entropy(out, torch.tensor([1, 2])).backward()
    optimizer.step()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# Tensors that are not simply what lies in memory


STRANGE: dict[str, Callable[[], Tensor]] = {
    "negative": lambda: torch._neg_view(torch.randn(5, 7)),
    "imaginary part of a conjugate": lambda: torch.randn(5, 7, dtype=torch.complex64).conj().imag,
    "real part of a conjugate": lambda: torch.randn(5, 7, dtype=torch.complex64).conj().real,
    "zero": lambda: torch._efficientzerotensor((5, 7)),
    "expanded": lambda: torch.randn(5, 1).expand(5, 7),
    "overlapping": lambda: torch.randn(20).as_strided((5, 7), (2, 1)),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", LAYERS)
def test_strange_tensors_are_what_they_stand_for(name: str, strange: str) -> None:
    x, layer = STRANGE[strange](), LAYERS[name]()
    plain = torch.zeros(x.shape) if strange == "zero" else x.resolve_neg().contiguous()
    if not (strange == "zero" and getattr(layer, "inplace", False)):
        torch.testing.assert_close(seeded(layer, x), seeded(layer, plain))
    leaf = torch.randn(5, 7, requires_grad=True)
    gradients = [torch.autograd.grad(seeded(layer, leaf), leaf, each)[0] for each in (x, plain)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_strange_tensors_are_written_or_refused_as_plainly(name: str) -> None:
    for strange in ("negative", "imaginary part of a conjugate"):
        x = STRANGE[strange]()
        wanted = seeded(in_two_steps(name), x)
        torch.manual_seed(3)
        assert robust(name)(x).data_ptr() == x.data_ptr()
        torch.testing.assert_close(x, wanted)
    for strange, reason in (("expanded", "more than one element"), ("zero", "ZeroTensors are immutable")):
        for act in (robust(name), ACTIVATIONS[name]()):
            with pytest.raises(RuntimeError, match=reason):
                act(STRANGE[strange]())


class Named(Tensor):
    """A subclass."""


@pytest.mark.parametrize("name", ["perturb", "relu", "relu in place", "gelu", "hardswish in place"])
def test_subclasses_and_tensors_without_memory_keep_their_kind(name: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer, x = LAYERS[name](), torch.randn(50)
    out = seeded(layer, x.as_subclass(Named))
    assert type(out) is Named
    torch.testing.assert_close(out.as_subclass(Tensor), seeded(layer, x))
    meta = layer(torch.randn(50, device="meta", requires_grad=True) * 1)
    assert (meta.device.type, meta.shape, meta.requires_grad) == ("meta", x.shape, True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = LAYERS[name]()(mode.from_tensor(x).requires_grad_() * 1)
    assert (fake.shape, fake.requires_grad) == (x.shape, True)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert torch.equal(seeded(layer, x), seeded(layer, x))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_gradients_with_and_without_the_kernel(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = NETWORKS[name]
    torch.manual_seed(0)
    model, x = robustify(case.build().train(), 0.3), case.images()
    results = []
    for choose in (kernels.choose, lambda *_: None):
        monkeypatch.setattr(kernels, "choose", choose)
        model.zero_grad()
        torch.manual_seed(1)
        model(x).square().sum().backward()
        results.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)


# Forms: signs for channels and samples, strengths that differ, samples that get none


by_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(map(str, form.values())))


@by_form
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_forms_are_those_of_plain_integers(layout: str, form: dict[str, Any], p: float) -> None:
    x = LAYOUTS[layout]()[..., :25].double() if layout not in ("0-d", "vector", "empty") else torch.randn(40, 3)
    seed = reference.next_seed()
    wanted = reference.group_strengths(x, seed, 0.3, p, **form)
    if form["grain"] == "element":
        wanted = wanted * reference.signs(x, seed, p)
    x.requires_grad_()
    g = perturb(x, 0.3, p, **form)
    torch.testing.assert_close(g, x + wanted.to(x.dtype) * x.abs())
    (grad,) = torch.autograd.grad(g.sum(), x)
    torch.testing.assert_close(grad * x, g)


@by_form
def test_forms_keep_only_x_and_eight_bytes(form: dict[str, Any]) -> None:
    x = torch.randn(6, 10, 5, requires_grad=True)
    storages = kept(lambda x: perturb(x, 0.1, **form), x)
    assert sorted(storages.values()) == sorted([8, x.nbytes, *kept(lambda x: x, x).values()])


@pytest.mark.parametrize("spread", ["fixed", "random"])
@pytest.mark.parametrize("grain", ["channel", "sample"])
def test_groups_have_their_signs_whatever_the_memory_format(grain: Any, spread: Any) -> None:
    x = torch.randn(5, 6, 7, 8)
    formats = (x, x.to(memory_format=torch.channels_last), x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2))
    results = [seeded(lambda y: perturb(y, 0.3, grain=grain, spread=spread), y) for y in formats]
    last = seeded(lambda y: perturb(y, 0.3, grain=grain, spread=spread, channel_dim=-1), x.movedim(1, -1).contiguous())
    assert all(torch.equal(each, results[0]) for each in (*results, last.movedim(-1, 1)))


def test_a_feature_is_a_channel() -> None:
    x = torch.randn(30, 50)
    assert torch.equal(seeded(lambda x: perturb(x, grain="channel", channel_dim=-1), x), seeded(perturb, x))


def test_shares_and_spreads_are_those_that_the_words_say() -> None:
    x = torch.ones(100_000, 1)
    moved = (perturb(x, 0.4, share=0.3) - 1).abs()[:, 0]
    assert abs(float((moved > 0).float().mean()) - 0.3) < SIGMA * (0.21 / 1e5) ** 0.5
    sizes = (perturb(x, 0.4, spread="random") - 1).abs()[:, 0]
    assert abs(float(sizes.mean()) - 0.2) < SIGMA * 0.4 / (12 * 1e5) ** 0.5
    assert float(sizes.square().mean()) == pytest.approx(0.16 / 3, rel=0.02)
    assert torch.equal(perturb(x, 0.4, share=0.0), x)


@by_form
@pytest.mark.parametrize("name", ["relu", "relu in place", "gelu", "leaky relu", "elu by its result", "softplus"])
def test_forms_behind_an_activation(name: str, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    act = ACTIVATIONS[name]()
    x, level, groups = torch.randn(3, 4, 9, 11, requires_grad=True), signs.level(0.4), signs.groups(**form)
    results = []
    wanted = seeded(lambda x: perturb(ACTIVATIONS[name]()(x), 0.3, 0.4, **form), x)
    for choose in (kernels.choose, lambda *_: None):
        monkeypatch.setattr(kernels, "choose", choose)
        out = seeded(lambda x: op.activate(act, type(act), x, 0.3, level, groups), x)
        torch.testing.assert_close(out, wanted)
        results.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@by_form
def test_forms_under_checkpointing_vmap_and_forward_mode(form: dict[str, Any]) -> None:
    layer, x = Perturb(0.3, **form), torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(seeded(layer, x).pow(2).sum(), x)
    again = torch.autograd.grad(seeded(lambda x: checkpoint(layer, x, use_reentrant=False), x).pow(2).sum(), x)
    torch.testing.assert_close(plain, again, rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda x: seeded(layer, x), (x,))
    assert torch.autograd.gradgradcheck(lambda x: seeded(layer, x), (x,))
    function, point = functools.partial(seeded, layer), x.detach()
    value, wanted = torch.autograd.functional.jvp(function, point, torch.ones_like(point))
    torch.testing.assert_close(torch.func.jvp(function, (point,), (torch.ones_like(point),)), (value, wanted))
    rows = torch.ones(30, 4, 5, 6, dtype=torch.float64)
    out = torch.func.vmap(torch.func.grad(lambda row: layer(row).sum()), randomness="different")(rows)
    assert len(out.unique(dim=0)) > 10


@by_form
@pytest.mark.usefixtures("compiler")
def test_forms_compile_into_one_graph(form: dict[str, Any]) -> None:
    x = torch.randn(6, 5, 40, requires_grad=True)
    layer = Perturb(0.3, **form)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = []
    for function in (layer, compiled):
        torch.manual_seed(3)
        out = function(x)
        results.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("grain", ["channel", "sample", "element"])
def test_forms_compile_to_machine_code(grain: Any) -> None:
    x = torch.randn(6, 5, 8, 8, requires_grad=True)
    layer = Perturb(0.3, 0.3, grain=grain, spread="random", share=0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of itself
        out = torch.compile(layer, fullgraph=True)(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad * x, out)
    moved = ((out - x).abs() / x.abs()).flatten(1)
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=1e-3, atol=1e-5)


def test_forms_are_shown_and_survive_copies() -> None:
    layer = pickle.loads(pickle.dumps(Perturb(0.2, grain="channel", channel_dim=-1, share=0.5)))
    assert repr(layer) == "Perturb(eps=0.2, p=0.5, grain=channel, share=0.5, channel_dim=-1)"


@pytest.mark.parametrize(
    ("form", "shape", "said"),
    [
        ({"grain": "pixel"}, (2, 3), "grain is 'pixel'; it must be one of element, channel, sample"),
        ({"spread": "wide"}, (2, 3), "spread is 'wide'; it must be one of fixed, random"),
        ({"share": 1.5}, (2, 3), "share is 1.5; it is the share of the samples"),
        ({"grain": "channel", "channel_dim": 0}, (2, 3), "channel_dim is 0; it must be a dimension of x, and not 0"),
        (
            {"grain": "channel"},
            (3,),
            r"got a tensor of shape \[3\]; wanted are samples along dimension 0, and channels",
        ),
        ({"grain": "sample"}, (), r"got a tensor of shape \[\]; wanted are samples"),
        ({"grain": "channel", "channel_dim": -3}, (3, 4, 5), r"\[3, 4, 5\]; wanted are channels at dimension -3"),
        ({"grain": "channel", "channel_dim": 3}, (3, 4, 5), r"\[3, 4, 5\]; wanted are channels at dimension 3"),
    ],
)
def test_forms_that_make_no_sense_are_refused(form: dict[str, Any], shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        perturb(torch.ones(shape), 0.1, **form)
