"""The equation against exact fractions, its signs against plain integers, its gradient against autograd."""

from __future__ import annotations

import copy
import pickle
import shutil
import warnings
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import reference
from resolute import op, signs
from resolute.errors import InputError
from resolute.op import Perturb, perturb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGMA, WORST = 4.0, 5.0  # bounds in standard deviations: for one statistic, for the worst of hundreds
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
HALVES = (torch.float16, torch.bfloat16)
EPS = (0.01, 0.1, 0.5, 0.9, 0.99)
FLOAT_ROUNDING = Fraction(3, 2)  # of the factor 1 + eps * l and of its product with x: within a neighbour of the truth
HALF_ROUNDING = 0.501  # once, from float32

LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "contiguous": lambda: torch.randn(2, 3, 20, 21),
    "channels last": lambda: torch.randn(2, 3, 20, 21).to(memory_format=torch.channels_last),
    "channels last, one channel": lambda: torch.randn(2, 1, 9, 8).to(memory_format=torch.channels_last),
    "channels last 3d": lambda: torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d),
    "transposed": lambda: torch.randn(40, 30).t(),
    "permuted": lambda: torch.randn(4, 5, 6, 7).permute(2, 0, 3, 1),
    "sliced": lambda: torch.randn(10, 60)[::2, 5::3],
    "sliced channels last": lambda: torch.randn(2, 6, 8, 8).to(memory_format=torch.channels_last)[:, 1:4, ::2],
    "expanded": lambda: torch.randn(5, 1, 7).expand(5, 4, 7),
    "expanded from one": lambda: torch.randn(()).expand(3, 4),
    "vector": lambda: torch.randn(1025),
    "0-d": lambda: torch.randn(()),
    "empty": lambda: torch.randn(0),
    "zero-size": lambda: torch.randn(2, 0, 3),
}


@pytest.fixture
def unwarned() -> Iterator[None]:
    op._warn_lost.cache_clear()
    yield
    op._warn_lost.cache_clear()


def drawn(x: Tensor, g: Tensor) -> Tensor:
    """Read the signs s from g(x) - x = eps * s * |x|."""
    return (g.detach().double() - x.detach().double()).sign()


def fresh_signs(n: int, p: float = 0.5) -> Tensor:
    x = torch.ones(n)
    return drawn(x, perturb(x, 0.1, p))


def correlation(a: Tensor, b: Tensor, p: float = 0.5) -> float:
    """Give the correlation of two rows of signs, in standard deviations of that of independent ones."""
    mean = 2 * p - 1
    return float(((a - mean) * (b - mean)).sum() / (1 - mean**2) / len(a) ** 0.5)


# The equation


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


# What refuses, and what warns


@pytest.mark.parametrize("eps", [1.0, -0.1, float("nan"), float("inf"), -float("inf"), 8])
def test_eps_out_of_range_is_refused(eps: float) -> None:
    for call in (lambda: perturb(torch.ones(1), eps), lambda: Perturb(eps), lambda: op.check(eps)):
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


@pytest.mark.parametrize(("dtype", "lost"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.usefixtures("unwarned")
def test_noise_below_the_resolution_of_the_dtype_warns_once(dtype: torch.dtype, lost: float) -> None:
    x = torch.randn(1000).to(dtype)
    assert not torch.equal(perturb(x, lost), x)
    with pytest.warns(RuntimeWarning, match=rf"eps is below 0\.\d+, the resolution of {dtype}: .*the plain network"):
        perturb(x, lost * 0.99)
    assert torch.equal(perturb(x, lost * 0.49), x), "the warning came twice or the noise does not vanish"
    perturb(x.float(), lost * 0.49)


# Under PyTorch's transformations


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
def test_compiles_to_machine_code() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of itself
        check_compiled(torch.compile(lambda x: perturb(x, 0.1), fullgraph=True))


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_signs_are_the_same_on_every_device(p: float) -> None:
    seed, level = torch.tensor(-(2**62) - 12345), signs.level(p)
    assert torch.equal(signs.draw(seed.cuda(), 5000, level).cpu(), signs.draw(seed, 5000, level))
    x = torch.randn(100, device="cuda")
    assert perturb(x, 0.1, p).device == x.device


# The module


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
