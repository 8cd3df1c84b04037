"""The attacks against their definitions and against the library's."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import (
    NO_BATCH,
    NO_GRADIENT,
    NO_LOGITS,
    Answers,
    as_float,
    tiny_convolution,
    tiny_images,
    tiny_info,
    tiny_network,
)
from resolute import attacks
from resolute.attacks import autoattack, fgsm, input_gradient, is_right, pgd, square
from resolute.errors import InputError
from resolute.noise.robustify import robustify
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable

ATTACKS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "fgsm": lambda model, x, y: fgsm(model, x, y, 0.05),
    "pgd-linf": lambda model, x, y: pgd(model, x, y, 0.05, 0.02, 4),
    "pgd-l2": lambda model, x, y: pgd(model, x, y, 0.5, 0.2, 4, restarts=2, norm="l2"),
}


class Linear(nn.Module):
    """A network whose gradient is known: logits = W x."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, pixels))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(x), y, reduction="none")


@pytest.fixture
def trained() -> nn.Sequential:
    """Train a small network, so that there is something to attack."""
    model, (x, y) = tiny_network(), as_float(tiny_images(200))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(1) == y).float().mean() > 0.9
    return model


def test_fgsm_follows_the_gradient_of_a_linear_network_written_out() -> None:
    model, x, y = Linear(12, 5), torch.rand(9, 3, 2, 2), torch.arange(9) % 5
    with torch.no_grad():
        probabilities = (x.flatten(1) @ model.weight.T).softmax(1)
        gradient = (probabilities - F.one_hot(y, 5)) @ model.weight
        by_hand = (x + 0.1 * gradient.view_as(x).sign()).clamp(0, 1)
    torch.testing.assert_close(input_gradient(model, x, y), gradient.view_as(x))
    assert torch.equal(fgsm(model, x, y, 0.1), by_hand)
    assert torch.equal(fgsm(model, x, y, "51/510"), by_hand)


def test_each_image_s_gradient_is_its_own() -> None:
    model, x, y = Linear(4, 3), torch.rand(6, 1, 2, 2), torch.arange(6) % 3
    together = input_gradient(model, x, y)
    for i in range(6):
        torch.testing.assert_close(input_gradient(model, x[i : i + 1], y[i : i + 1]), together[i : i + 1])


@pytest.mark.parametrize("name", ATTACKS)
def test_attacked_images_stay_images_in_the_ball(name: str) -> None:
    x = torch.rand(40, 1, 6, 6).mul(1.4).sub(0.2).clamp(0, 1)
    attacked = ATTACKS[name](tiny_network(), x, torch.arange(40) % 3)
    moved = attacked - x
    assert attacked.shape == x.shape
    assert attacked.dtype == x.dtype
    assert not attacked.requires_grad
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert moved.abs().max() > 0
    if name == "pgd-l2":
        assert moved.flatten(1).norm(dim=1).max() <= 0.5 * (1 + 1e-5)
    else:
        assert moved.abs().max() <= 0.05 + 1e-6


@pytest.mark.parametrize("radius", [0, "0/255"])
def test_radius_0_changes_nothing(radius: float | str) -> None:
    x, y = as_float(tiny_images())
    assert torch.equal(fgsm(tiny_network(), x, y, radius), x)
    assert torch.equal(pgd(tiny_network(), x, y, radius, 0.1, 2), x)
    assert torch.equal(pgd(tiny_network(), x, y, radius, 0.1, 2, norm="l2"), x)


def test_pgd_finds_the_worst_point_of_a_linear_network() -> None:
    """With two classes the loss falls with (w_y - w_other) x, so the worst point of each ball is known."""
    model, x, y = Linear(8, 2), 0.3 + 0.4 * torch.rand(20, 2, 2, 2), torch.arange(20) % 2
    with torch.no_grad():
        away = (model.weight[1 - y] - model.weight[y]).view_as(x)
    worst = x + 0.2 * away.sign()
    torch.testing.assert_close(pgd(model, x, y, 0.2, 0.05, 12), worst)
    worst = x + 0.2 * away / away.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(pgd(model, x, y, 0.2, 0.02, 100, norm="l2"), worst, atol=1e-3, rtol=0)


def test_pgd_is_at_least_as_strong_as_fgsm(trained: nn.Sequential) -> None:
    x, y = as_float(tiny_images(200, seed=1))
    one, many = fgsm(trained, x, y, 0.1), pgd(trained, x, y, 0.1, 0.02, 20, restarts=2)
    assert losses(trained, x, y).mean() < losses(trained, one, y).mean() <= losses(trained, many, y).mean()
    assert bool((losses(trained, many, y) >= losses(trained, one, y) - 1e-3).all())
    right = [int((trained(z).argmax(1) == y).sum()) for z in (x, one, many)]
    assert right[0] > right[1] >= right[2]


def test_the_best_of_several_starts_is_kept_for_each_image() -> None:
    model, (x, y) = tiny_network(), as_float(tiny_images())
    torch.manual_seed(5)
    singles = [losses(model, pgd(model, x, y, 0.3, 0.01, 1), y) for _ in range(3)]
    torch.manual_seed(5)
    best = losses(model, pgd(model, x, y, 0.3, 0.01, 1, restarts=3), y)
    assert torch.equal(best, torch.stack(singles).amax(0))
    assert len({int(i) for i in torch.stack(singles).argmax(0)}) == 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_fill_the_ball(norm: Literal["linf", "l2"]) -> None:
    x = torch.full((4000, 1, 2, 2), 0.5)
    start = attacks._BALLS[norm].start(x, 0.1)
    size = start.flatten(1).norm(dim=1) if norm == "l2" else start.flatten(1).abs().amax(1)
    share = (size / 0.1) ** 4
    assert share.max() <= 1 + 1e-5
    assert share.mean().item() == pytest.approx(0.5, abs=5 / (12 * 4000) ** 0.5)
    assert start.mean((0, 2, 3)).abs().item() < 5 * 0.1 / 4000**0.5


@pytest.mark.parametrize("name", ATTACKS)
def test_the_network_is_left_as_it_was(name: str) -> None:
    model, (x, y) = tiny_convolution(), as_float(tiny_images())
    model(x)
    model[2].eval()
    model[7].weight.requires_grad = False
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7) if parameter.requires_grad else None

    def everything() -> dict[str, Any]:
        tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        grads = {name: p.grad is not None and p.grad.unique().tolist() for name, p in model.named_parameters()}
        flags = [p.requires_grad for p in model.parameters()]
        return {"modes": [m.training for m in model.modules()], "grads": grads, "flags": flags, "tensors": tensors}

    before, kept = everything(), x.clone()
    ATTACKS[name](model, x, y)
    after = everything()
    tensors = after.pop("tensors")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in before.pop("tensors").items())
    assert after == before
    assert after["modes"].count(False) == 1
    assert torch.equal(x, kept)
    assert not x.requires_grad


def test_modes_come_back_when_the_network_fails() -> None:
    model = tiny_convolution()
    with pytest.raises(RuntimeError, match="channels"):
        fgsm(model, torch.rand(2, 9, 6, 6), torch.zeros(2, dtype=torch.long), 0.1, check=False)
    assert all(module.training for module in model.modules())


def test_the_deployed_network_is_attacked_not_the_one_in_training() -> None:
    x, y = as_float(tiny_images())
    plain = tiny_convolution()
    plain(x)
    noisy = robustify(tiny_convolution(), eps=0.9)
    noisy.load_state_dict(plain.state_dict())
    assert torch.equal(fgsm(noisy.train(), x, y, 0.1), fgsm(plain.eval(), x, y, 0.1))


def test_attacks_work_where_gradients_are_off() -> None:
    model, (x, y) = tiny_network(), as_float(tiny_images())
    with torch.no_grad():
        off = fgsm(model, x, y, 0.1)
        assert not torch.is_grad_enabled()
    assert torch.equal(off, fgsm(model, x, y, 0.1))


def test_colour_images_of_any_size_are_attacked() -> None:
    x, y = as_float(tiny_images(info=tiny_info(shape=(3, 5, 7))))
    assert fgsm(tiny_network(shape=(3, 5, 7)), x, y, 0.1).shape == x.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0, restarts=1; wanted are whole numbers, 1 or more"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"steps": "3"}, "steps='3'"),
        ({"restarts": 0}, "steps=2, restarts=0; wanted are whole numbers"),
        ({"norm": "l1"}, "norm='l1'; it is one of linf, l2"),
        ({"radius": 2}, "radius is 2"),
        ({"radius": -0.1}, "radius is -0.1"),
        ({"radius": None}, "radius is None"),
        ({"step": "x"}, "step is 'x'"),
        ({"step": -0.1}, "step is -0.1"),
        ({"step": 0}, "step=0 at radius=0.1: it would stay where it starts"),
    ],
)
def test_pgd_refuses_what_it_cannot_do(change: dict[str, Any], message: str) -> None:
    x, y = as_float(tiny_images())
    with pytest.raises(InputError, match=message):
        pgd(tiny_network(), x, y, **{"radius": 0.1, "step": 0.1, "steps": 2} | change)


def test_square_refuses_no_queries() -> None:
    x, y = as_float(tiny_images())
    with pytest.raises(InputError, match="the attack got queries=0; wanted are whole numbers, 1 or more"):
        square(tiny_network(), x, y, 0.1, 0)


CALLS: dict[str, Callable[..., Tensor]] = {
    "fgsm": fgsm,
    "pgd": functools.partial(pgd, step=0.05, steps=2),
    "square": functools.partial(square, queries=2),
    "autoattack": autoattack,
}


@pytest.mark.parametrize("attack", CALLS)
@pytest.mark.parametrize("batch", NO_BATCH)
def test_what_is_no_batch_is_refused_before_any_work(attack: str, batch: str) -> None:
    x, y, message = NO_BATCH[batch]
    network = tiny_network(shape=tuple(x.shape[1:])) if x.ndim == 4 else tiny_network()
    with pytest.raises(InputError, match=message):
        CALLS[attack](network, x, y, radius=0.1)


@pytest.mark.parametrize("attack", CALLS)
def test_an_empty_batch_and_arrays_are_refused(attack: str) -> None:
    x, y = as_float(tiny_images())
    with pytest.raises(InputError, match="the batch is empty; wanted is at least one image"):
        CALLS[attack](tiny_network(), x[:0], y[:0], radius=0.1)
    with pytest.raises(InputError, match="the images are a ndarray; wanted is a"):
        CALLS[attack](tiny_network(), x.numpy(), y, radius=0.1)
    with pytest.raises(InputError, match="the labels of a batch are ndarray; wanted is one class number"):
        CALLS[attack](tiny_network(), x, y.numpy(), radius=0.1)


@pytest.mark.parametrize("attack", CALLS)
@pytest.mark.parametrize("name", NO_LOGITS)
def test_a_network_without_logits_is_refused_before_any_work(attack: str, name: str) -> None:
    (x, y), (change, message) = as_float(tiny_images()), NO_LOGITS[name]
    with pytest.raises(InputError, match=message):
        CALLS[attack](Answers(change), x, y, radius=0.1)


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_network_without_a_gradient_is_refused_unless_none_is_needed(name: str) -> None:
    x, y = as_float(tiny_images())
    for attack in ("fgsm", "pgd", "autoattack"):
        with pytest.raises(InputError, match="no gradient of the model's answer reaches the images"):
            CALLS[attack](Answers(NO_GRADIENT[name]), x, y, radius=0.1)
    pytest.importorskip("torchattacks")
    assert square(Answers(NO_GRADIENT[name]), x, y, 0.1, 2).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_may_be_integers_of_any_size(dtype: torch.dtype) -> None:
    pytest.importorskip("torchattacks")
    x, y = as_float(tiny_images(8))
    for attack in CALLS.values():
        torch.manual_seed(0)
        found = attack(tiny_network(), x, y.to(dtype), radius=0.1)
        torch.manual_seed(0)
        assert torch.equal(found, attack(tiny_network(), x, y, radius=0.1))


def test_the_checks_leave_network_and_generator_alone_and_can_be_left_out() -> None:
    model, (x, y) = tiny_convolution(), as_float(tiny_images())
    before = torch.get_rng_state(), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    checked = fgsm(model, x, y, 0.1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    shown: list[int] = []
    model.register_forward_hook(lambda _module, args, _out: shown.append(len(args[0])))
    assert torch.equal(fgsm(model, x, y, 0.1, check=False), checked)
    assert shown == [48]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_is_torchattacks_own_from_the_same_start(trained: nn.Sequential, norm: Literal["linf", "l2"]) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    x, y = as_float(tiny_images(60, seed=1))
    trained.eval()
    assert (fgsm(trained, x, y, 0.1) - torchattacks.FGSM(trained, eps=0.1)(x, y)).abs().max() <= 1e-6
    name = "PGD" if norm == "linf" else "PGDL2"
    theirs = getattr(torchattacks, name)(trained, eps=0.3, alpha=0.05, steps=10, random_start=False)(x, y)
    ours = pgd(trained, x, y, 0.3, 0.05, 10, norm=norm, starts=lambda _: torch.zeros_like(x))
    assert (ours - theirs).abs().max() <= 1e-6
    assert (ours - x).abs().max() > 0.05


def test_early_stop_changes_no_answer_and_spares_passes(trained: nn.Sequential) -> None:
    x, y = as_float(tiny_images(200, seed=1))
    shown: list[int] = []
    trained.register_forward_hook(lambda _module, args, _out: shown.append(len(args[0])))

    def right(early_stop: bool) -> tuple[list[bool], int]:
        torch.manual_seed(3)
        shown.clear()
        attacked = pgd(trained, x, y, 0.1, 0.02, 20, early_stop=early_stop, check=False)
        spent = sum(shown)
        return (trained.eval()(attacked).argmax(1) == y).tolist(), spent

    (stopped, few), (whole, many) = right(early_stop=True), right(early_stop=False)
    assert stopped == whole
    assert 0 < sum(whole) < len(whole)
    assert few < 0.8 * many == 0.8 * 20 * len(x)


def test_an_image_that_was_fooled_is_not_tried_again(trained: nn.Sequential) -> None:
    x, y = as_float(tiny_images(200, seed=1))
    asked: list[int] = []

    def start(restart: int) -> Tensor:
        asked.append(restart)
        return torch.zeros_like(x)

    pgd(trained, x, y, 1.0, 0.2, 20, restarts=5, starts=start, early_stop=True)
    assert asked == [0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_images_exact(dtype: torch.dtype) -> None:
    x, y = as_float(tiny_images(60))
    attacked = pgd(tiny_network().to(dtype), x, y, 2 / 255, 1 / 255, 5)
    assert attacked.dtype == torch.float32
    assert 1.9 / 255 < (attacked - x).abs().max() <= 2 / 255 + 1e-6
    assert fgsm(tiny_network().to(dtype), x.to(dtype), y, 0.1).dtype == dtype


def test_an_l2_radius_may_exceed_one() -> None:
    x, y = as_float(tiny_images())
    attacked = pgd(tiny_network(), x, y, 2.0, 0.5, 10, norm="l2")
    assert 1 < (attacked - x).flatten(1).norm(dim=1).max() <= 2 + 1e-5


class Cliff(nn.Module):
    """Right about class 0 by its first logit, until the mean of an image passes a bound: then no answer is a number."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        logits = torch.stack([1 + mean, -mean], 1)
        return logits * logits.new_ones(()).where((mean <= self.bound)[:, None], torch.nan)


def test_where_the_gradient_is_no_number_an_image_stays_as_it_is() -> None:
    x, y = torch.tensor([0.2, 0.8]).view(2, 1, 1, 1).expand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    attacked = fgsm(Cliff(0.5), x, y, 0.1)
    torch.testing.assert_close(attacked[0], x[0] - 0.1)
    assert torch.equal(attacked[1], x[1])
    norms: tuple[Literal["linf", "l2"], ...] = ("linf", "l2")
    for norm in norms:
        moved = pgd(Cliff(0.5), x, y, 0.1, 0.05, 3, norm=norm)
        assert moved.isfinite().all()
        assert 0 < (moved - x).abs().max() <= 0.1 + 1e-6


def test_an_answer_that_is_no_number_is_never_right() -> None:
    logits = torch.tensor([[3.0, 1.0], [1.0, 3.0], [torch.nan, 1.0], [torch.inf, 1.0], [3.0, -torch.inf]])
    assert is_right(logits, torch.zeros(5, dtype=torch.int64)).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("hit", [0, 1])
def test_a_start_with_an_answer_that_is_no_number_has_won(hit: int) -> None:
    x, y = torch.full((3, 1, 4, 4), 0.45), torch.zeros(3, dtype=torch.int64)

    def starts(restart: int) -> Tensor:
        return torch.full_like(x, 0.1 if restart == hit else -0.05)

    attacked = pgd(Cliff(0.5), x, y, 0.1, 1e-9, 2, 2, starts=starts, early_stop=True)
    assert (attacked > 0.5).all()


@pytest.mark.parametrize("attack", [ATTACKS["fgsm"], ATTACKS["pgd-linf"]])
def test_a_network_may_change_its_input_in_place(attack: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2).sub_(1).flatten(1)[:, :3].square()

    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul(2).sub(1).flatten(1)[:, :3].square()

    x, y = as_float(tiny_images(12))
    before = x.clone()
    found = []
    for network in (InPlace(), Plain()):
        torch.manual_seed(0)
        found.append(attack(network, x, y))
    assert torch.equal(*found)
    assert not torch.equal(found[0], x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("attack", [functools.partial(square, queries=50), autoattack])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_library_s_attacks_stay_in_the_ball_and_fool(attack: Callable[..., Tensor], classes: int) -> None:
    pytest.importorskip("torchattacks")
    x, _ = as_float(tiny_images(6))
    model: nn.Module = tiny_network(classes=classes)
    y = model.eval()(x).argmax(1)
    model.train()
    before = torch.random.get_rng_state()
    attacked = attack(model, x, y, 0.3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert (attacked - x).abs().max() <= 0.3 + 1e-6
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert (model.eval()(attacked).argmax(1) == y).sum() < 6
    assert torch.equal(attack(model, x, y, 0.3), attacked)


def test_wrong_images_are_left_as_they_are() -> None:
    pytest.importorskip("torchattacks")
    model, (x, _) = tiny_convolution().eval(), as_float(tiny_images(6))
    y = (model(x).argmax(1) + 1) % 3
    assert torch.equal(square(model, x, y, 0.3, 10), x)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(InputError, match=r"pip install 'resolute\[attacks\]'"):
        find_shifts(["attacks"], tiny_info())


def test_what_the_library_gives_for_an_image_must_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it divides nothing by nothing, the image stays as it was."""

    class Library:
        def Square(self, *_: Any, **__: Any) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda x, _y: x.add(0.1).index_fill(0, torch.tensor([1]), torch.nan)

    monkeypatch.setattr(attacks, "torchattacks", Library)
    network, (x, _) = tiny_network().eval(), as_float(tiny_images(6))
    attacked = square(network, x, network(x).argmax(1), 0.3)
    assert torch.equal(attacked[1], x[1])
    torch.testing.assert_close(attacked[2:], x[2:].add(0.1).clamp(0, 1))
