"""A whole training: its steps against a loop written by hand, its schedule, its optimizer, and how it is taken up."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import math
import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
    StepLR,
)

from cases import NO_GRADIENT, NO_LOGITS, Answers, as_float, tiny_convolution, tiny_images, tiny_info, tiny_network
from resolute.attacks import evaluating
from resolute.config import Augment, Settings, TrainConfig
from resolute.data.augment import augment
from resolute.data.dataset import Images, augment_generator, epoch_order, training_batches
from resolute.errors import InputError
from resolute.methods import METHODS, settings_of
from resolute.noise import signs
from resolute.noise.robustify import carriers, is_robust
from resolute.noise.sites import sites
from resolute.noise.strength import calibrate
from resolute.training import loop
from resolute.training.loop import learning_rate, make_optimizer, train
from training.watching import CONFIG, PLAIN, changed, same, watcher, weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.training.checkpoint import Epoch


def untimed(log: list[Epoch]) -> list[Epoch]:
    return [dataclasses.replace(row, step_ms=0, seconds=0) for row in log]


@pytest.mark.parametrize("name", [*METHODS, "r+fgsm"])
def test_the_seed_decides_everything(name: str) -> None:
    def run(seed: int) -> tuple[list[Epoch], dict[str, Tensor]]:
        model = tiny_network(dropout=0.5)
        log = train(model, tiny_images(), method=name, config=changed(augment=Augment(shift=1)), seed=seed)
        return untimed(log), weights(model)

    torch.manual_seed(1)
    first = run(0)
    torch.manual_seed(2)
    again, other = run(0), run(1)
    assert first[0] == again[0]
    assert same(first[1], again[1])
    assert not same(first[1], other[1])


def test_methods_of_one_seed_are_paired() -> None:
    """The same images in the same order for each."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {"base": [], "r": []}
    config, images = changed(augment=Augment(shift=1)), tiny_images()
    for name, watched in seen.items():
        method = dataclasses.replace(watcher(watched), prepare=METHODS[name].prepare)
        train(tiny_network(), images, method=method, config=config)
    for (x, y), (other_x, other_y) in zip(*seen.values(), strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


@pytest.mark.parametrize("name", ["r", "gaussian", "additive", "dropout"])
def test_noise_of_eps_0_is_base_bit_for_bit(name: str) -> None:
    """A network with Dropout would draw other numbers, had the noise drawn any."""
    trained = {method: tiny_network(dropout=0.5) for method in ("base", f"{name}@eps=0")}
    for method, model in trained.items():
        train(model, tiny_images(), method=method, config=changed(augment=Augment(shift=1)))
    assert same(*map(weights, trained.values()))


@pytest.mark.parametrize(("change", "message"), NO_LOGITS.values())
def test_a_network_without_logits_is_refused_before_any_step(
    change: Callable[..., Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "launch", pytest.fail)
    with pytest.raises(InputError, match=message):
        train(Answers(change), tiny_images(), config=CONFIG)


def test_a_network_for_other_classes_or_without_a_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "launch", pytest.fail)
    with pytest.raises(InputError, match="tells 7 classes apart, and tiny has 3: wanted is a network with one logit"):
        train(tiny_network(classes=7), tiny_images(), config=CONFIG)
    with pytest.raises(InputError, match="no gradient of the model's answer reaches the weights"):
        train(Answers(NO_GRADIENT["no_grad"]), tiny_images(), config=CONFIG)
    with pytest.raises(InputError, match="no gradient of the model's answer reaches the images"):
        train(Answers(NO_GRADIENT["detached"]), tiny_images(), method="fgsm", config=CONFIG)


def test_the_radius_is_that_of_the_data_unless_it_is_given() -> None:
    radii: list[float | None] = []

    def note(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        radii.append(settings.radius)
        return x, y

    method, config = dataclasses.replace(watcher([]), perturb_batch=note), changed(epochs=1, batch_size=48)
    train(tiny_network(), tiny_images(), method=method, config=config)
    train(tiny_network(), tiny_images(), method=method, config=config, settings=Settings(radius=0.25))
    assert radii == [0.05, 0.25]


def test_the_network_keeps_its_noise_and_its_keys() -> None:
    model = tiny_network()
    keys = list(model.state_dict())
    train(model, tiny_images(), method="r", settings=Settings(eps=0.2), config=CONFIG)
    assert is_robust(model)
    assert [site.name for site in sites(model)] == ["3"]
    assert list(model.state_dict()) == keys
    assert not any(key in model.state_dict() for key in ("module", "_orig_mod"))


def test_the_caller_s_random_numbers_are_left_alone() -> None:
    def states() -> tuple[Tensor, object, object]:
        return torch.random.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002

    before = states()
    train(tiny_network(dropout=0.5), tiny_images(), method="r", config=CONFIG)
    after = states()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", ["base", "fgsm"])
def test_a_compiled_network_trains_to_the_same_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By dynamo and AOTAutograd; without the last stage, which needs a C++ compiler."""
    import lightning_fabric  # noqa: F401  it wraps torch.compile when it is imported

    calls: list[nn.Module] = []
    wrapped = torch.compile

    def compile_without_inductor(model: nn.Module, **kwargs: Any) -> Any:
        calls.append(model)
        return wrapped(model, **{"backend": "aot_eager", **kwargs})

    monkeypatch.setattr(torch, "compile", compile_without_inductor)
    eager, compiled = tiny_network(), tiny_network()
    train(eager, tiny_images(), method=name, config=CONFIG)
    assert not calls
    train(compiled, tiny_images(), method=name, config=changed(compile=True))
    assert calls
    assert weights(compiled).keys() == weights(eager).keys()
    for key, tensor in weights(compiled).items():
        torch.testing.assert_close(tensor, weights(eager)[key])


def test_nothing_is_written_without_a_folder(tmp_path: Path) -> None:
    train(tiny_network(), tiny_images(), config=changed(tensorboard=True))
    assert list(tmp_path.iterdir()) == []


def test_a_run_leaves_its_table_and_its_tensorboard_log(tmp_path: Path) -> None:
    log = train(tiny_network(), tiny_images(), config=changed(tensorboard=True), out=tmp_path / "cell")
    lines = (tmp_path / "cell" / "train.csv").read_text().splitlines()
    assert [float(line.split(",")[2]) for line in lines[1:]] == [row.loss for row in log]
    assert len(list((tmp_path / "cell" / "tensorboard").glob("events.out.tfevents.*"))) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [*METHODS, "r+fgsm"])
def test_every_method_trains_on_a_gpu(name: str) -> None:
    model = tiny_network()
    log = train(model, tiny_images(), method=name, config=changed(device="cuda", epochs=10, precision="bf16-mixed"))
    assert next(model.parameters()).is_cuda
    assert log[-1].loss < log[0].loss


# The steps of an epoch against a loop written by hand


def by_hand(
    model: nn.Module, images: Images, config: TrainConfig, seed: int, loss_of: Callable[[Tensor, Tensor], Tensor]
) -> list[tuple[float, float]]:
    """Train as anyone would write it, at a constant rate; give loss and error of each epoch."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )
    x, y = as_float(images)
    log = []
    for epoch in range(config.epochs):
        model.train()
        torch.manual_seed(signs.key(seed, "epoch", epoch, 0))
        rows = []
        order = epoch_order(len(x), seed, epoch)
        for start in range(0, len(x) - config.batch_size + 1, config.batch_size):
            index = order[start : start + config.batch_size]
            logits = model(x[index])
            loss = loss_of(logits, y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows.append((loss.item(), (logits.argmax(1) != y[index]).float().mean().item()))
        losses, errors = zip(*rows, strict=True)
        log.append((float(np.mean(losses)), float(np.mean(errors))))
    return log


def smoothed(logits: Tensor, y: Tensor, share: float) -> Tensor:
    spread = -logits.log_softmax(1).mean(1)
    return ((1 - share) * F.cross_entropy(logits, y, reduction="none") + share * spread).mean()


@pytest.mark.parametrize("build", [functools.partial(tiny_network, dropout=0.5), tiny_convolution])
def test_base_is_the_loop_that_anyone_would_write(build: Callable[[], nn.Module]) -> None:
    """Bit for bit, with an incomplete last batch, dropout and BatchNorm."""
    images, ours, theirs = tiny_images(70), build(), build()
    log = train(ours, images, config=PLAIN, seed=5)
    expected = by_hand(theirs, images, PLAIN, 5, F.cross_entropy)
    assert same(weights(ours), weights(theirs))
    assert [row.epoch for row in log] == [1, 2, 3]
    assert [row.loss for row in log] == pytest.approx([loss for loss, _ in expected], rel=1e-6)
    assert [row.train_error for row in log] == pytest.approx([error for _, error in expected])
    assert all(row.step_ms > 0 and row.seconds * 1000 >= 4 * row.step_ms for row in log)


def test_label_smoothing_spreads_the_target() -> None:
    images, ours, theirs = tiny_images(), tiny_network(), tiny_network()
    log = train(ours, images, config=changed(PLAIN, label_smoothing=0.2))
    expected = by_hand(theirs, images, PLAIN, 0, functools.partial(smoothed, share=0.2))
    assert [row.loss for row in log] == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    for name, tensor in weights(ours).items():
        torch.testing.assert_close(tensor, weights(theirs)[name])


@pytest.mark.parametrize("config", [CONFIG, changed(warmup_epochs=1.0), changed(schedule="step", milestones=(1, 2))])
def test_each_step_has_the_rate_of_its_moment(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    log = train(tiny_network(), tiny_images(), config=config)
    assert rates == pytest.approx([learning_rate(config, step / 3) for step in range(9)])
    assert [row.lr for row in log] == rates[2::3]


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    model, images = tiny_convolution(), tiny_images()
    seen: list[dict[str, Tensor]] = []
    log = train(
        model, images, config=changed(ema=0.8), validation=images, on_step=lambda _: seen.append(weights(model))
    )
    average = {name: tensor.double() for name, tensor in seen[0].items()}
    for step in seen[1:]:
        average = {name: 0.8 * tensor + 0.2 * step[name] for name, tensor in average.items()}
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, average[name].float())
    assert not same(weights(model), seen[-1])
    x, y = as_float(images)
    assert log[-1].validation_error == (model.eval()(x).argmax(1) != y).double().mean().item()


def test_validation_is_measured_as_deployed_and_changes_nothing() -> None:
    images, other = tiny_images(), tiny_images(50, seed=9, split="validation")
    with_it, without = tiny_convolution(), tiny_convolution()
    seen: list[float] = []

    def look(done: float) -> None:
        if done == int(done):
            x, y = as_float(other)
            with evaluating(with_it), torch.no_grad():
                seen.append((with_it(x).argmax(1) != y).double().mean().item())

    log = train(with_it, images, method="r", config=CONFIG, validation=other, on_step=look)
    assert [row.validation_error for row in log] == seen
    log_without = train(without, images, method="r", config=CONFIG)
    assert [row.validation_error for row in log_without] == [None] * 3
    assert same(weights(with_it), weights(without))


def test_more_validation_than_training_images_are_not_looked_at_after_each_epoch() -> None:
    """Four times as many: after every fourth epoch and after the last, or logging would cost more than training."""
    images, other = tiny_images(20), tiny_images(80, seed=9, split="validation")
    often, seldom = tiny_network(), tiny_network()
    whole = train(often, images, config=changed(epochs=6), validation=other.part(torch.arange(20)))
    log = train(seldom, images, config=changed(epochs=6), validation=other)
    assert [row.validation_error is not None for row in whole] == [True] * 6
    assert [row.validation_error is not None for row in log] == [False, False, False, True, False, True]
    assert same(weights(often), weights(seldom))


@pytest.mark.parametrize("policy", [None, Augment(shift=2, flip=True, erase=0.5)])
def test_images_are_augmented_by_the_draws_of_their_step(policy: Augment | None) -> None:
    """By the recipe's policy, else by that of the data."""
    images = tiny_images(40, tiny_info(policy=Augment(shift=1)))
    seen: list[tuple[Tensor, Tensor]] = []
    train(tiny_network(), images, method=watcher(seen), config=changed(epochs=2, augment=policy), seed=4)
    x, y = as_float(images)
    for step, (inputs, targets) in enumerate(seen):
        epoch, within = divmod(step, 2)
        index = epoch_order(40, 4, epoch)[16 * within : 16 * within + 16]
        draws = augment_generator(4, epoch, within)
        assert torch.equal(inputs, augment(x[index], policy or Augment(shift=1), draws))
        assert torch.equal(targets, y[index])
    assert len(seen) == 4


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    train(tiny_network(), tiny_images(10), method=watcher(seen), config=CONFIG)
    assert [len(x) for x, _ in seen] == [10, 10, 10]


def test_noise_differs_between_epochs() -> None:
    drawn: list[float] = []

    def draw(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        drawn.append(torch.rand(()).item())
        return x, y

    train(tiny_network(), tiny_images(), method=dataclasses.replace(watcher([]), perturb_batch=draw), config=CONFIG)
    assert len(set(drawn)) == 9


def test_fgsm_trains_on_the_mean_of_both_halves() -> None:
    """One step, from the formula: J(x) / 2 + J(x') / 2."""
    from resolute.attacks import fgsm

    images, config = tiny_images(16), changed(epochs=1, weight_decay=0.0)
    ours, theirs = tiny_network(), tiny_network()
    log = train(ours, images, method="fgsm", settings=Settings(radius=0.3), config=config)
    x, y = as_float(images)
    loss = F.cross_entropy(theirs(x), y) / 2 + F.cross_entropy(theirs(fgsm(theirs, x, y, 0.3)), y) / 2
    loss.backward()
    with torch.no_grad():
        for parameter in theirs.parameters():
            assert parameter.grad is not None
            parameter.sub_(config.lr * (1 + config.momentum) * parameter.grad)
    assert log[0].loss == pytest.approx(loss.item(), rel=1e-5)
    for name, tensor in weights(ours).items():
        torch.testing.assert_close(tensor, weights(theirs)[name])


def test_the_caller_hears_of_each_step() -> None:
    moments: list[float] = []
    train(tiny_network(), tiny_images(), config=CONFIG, on_step=moments.append)
    assert moments == pytest.approx([step / 3 for step in range(1, 10)])


def test_bf16_computes_in_bfloat16_and_keeps_float32_weights() -> None:
    model = tiny_network()
    dtypes: set[torch.dtype] = set()
    model[2].register_forward_hook(lambda _module, _args, out: dtypes.add(out.dtype) if len(out) > 2 else None)
    log = train(
        model,
        tiny_images(),
        method="r+fgsm",
        settings=Settings(eps=0.1),
        config=changed(precision="bf16-mixed", epochs=5),
    )
    assert dtypes == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert log[-1].loss < log[0].loss


def test_channels_last_trains_to_the_same_weights() -> None:
    first, last = tiny_convolution(dropout=0), tiny_convolution(dropout=0)
    log = train(first, tiny_images(), config=CONFIG)
    log_last = train(last, tiny_images(), config=changed(channels_last=True))
    assert log_last[-1].loss == pytest.approx(log[-1].loss, rel=1e-3)
    for key, tensor in weights(last).items():
        torch.testing.assert_close(tensor, weights(first)[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["base", "fgsm"])
def test_a_loss_that_is_not_finite_is_refused(name: str, tmp_path: Path) -> None:
    config = changed(lr=1e30, schedule="step", milestones=())
    with pytest.raises(InputError, match=rf"the loss became (nan|inf) in epoch 1 \({name}, lr 1e\+30\)\. Lower lr"):
        train(tiny_network(), tiny_images(), method=name, config=config, out=tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


# The learning rate


STEPS = 7
"""Steps in an epoch."""


def ours(config: TrainConfig) -> list[float]:
    return [learning_rate(config, step / STEPS) for step in range(config.epochs * STEPS)]


def torchs(config: TrainConfig, schedule: Any) -> list[float]:
    """Step torch's scheduler, made by ``schedule(optimizer)``, through a training run."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    scheduler: LRScheduler = schedule(optimizer)
    rates = []
    for _ in range(config.epochs * STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_torch_s() -> None:
    config = TrainConfig(epochs=5, lr=0.3)
    assert ours(config) == pytest.approx(torchs(config, lambda o: CosineAnnealingLR(o, 5 * STEPS)))
    assert ours(config)[0] == 0.3
    assert learning_rate(config, 5) == pytest.approx(0)


def test_steps_are_torch_s() -> None:
    config = TrainConfig(epochs=6, lr=0.3, schedule="step", milestones=(2, 5), gamma=0.2)
    theirs = torchs(config, lambda o: MultiStepLR(o, [2 * STEPS, 5 * STEPS], gamma=0.2))
    assert ours(config) == pytest.approx(theirs)
    assert len(set(ours(config))) == 3


def test_linear_is_torch_s() -> None:
    config = TrainConfig(epochs=5, lr=0.3, schedule="linear")
    theirs = torchs(config, lambda o: LinearLR(o, start_factor=1, end_factor=0, total_iters=5 * STEPS))
    assert ours(config) == pytest.approx(theirs, abs=1e-9)


def test_exponential_is_torch_s_step_by_step() -> None:
    """0.96 for 2 epochs is the STEPS * 2-th root of it for a step."""
    config = TrainConfig(epochs=6, lr=0.3, schedule="exponential", gamma=0.96, decay_epochs=2)
    assert ours(config) == pytest.approx(torchs(config, lambda o: ExponentialLR(o, 0.96 ** (1 / (2 * STEPS)))))


def test_staircase_is_torch_s() -> None:
    config = TrainConfig(epochs=6, lr=0.3, schedule="staircase", gamma=0.94, decay_epochs=2)
    assert ours(config) == pytest.approx(torchs(config, lambda o: StepLR(o, 2 * STEPS, gamma=0.94)))
    assert len(set(ours(config))) == 3


def test_the_rate_does_not_fall_below_its_floor() -> None:
    config = TrainConfig(epochs=4, lr=1.0, schedule="exponential", gamma=0.1, lr_floor=0.01, warmup_epochs=1)
    rates = [learning_rate(config, done) for done in (0, 0.5, 1, 2, 3, 4)]
    assert rates == pytest.approx([0, 0.5, 0.1, 0.01, 0.01, 0.01])


def test_warm_up_is_torch_s_from_zero() -> None:
    config = TrainConfig(epochs=6, lr=0.3, warmup_epochs=2)

    def schedule(optimizer: SGD) -> SequentialLR:
        rise = LinearLR(optimizer, start_factor=1e-12, total_iters=2 * STEPS)
        return SequentialLR(optimizer, [rise, CosineAnnealingLR(optimizer, 4 * STEPS)], milestones=[2 * STEPS])

    assert ours(config) == pytest.approx(torchs(config, schedule), abs=1e-9)
    assert ours(config)[0] == 0
    assert max(ours(config)) == 0.3


def test_a_warm_up_may_last_part_of_an_epoch_or_all_of_them() -> None:
    assert learning_rate(TrainConfig(epochs=1, lr=0.2, warmup_epochs=0.5), 0.25) == 0.1
    rising = ours(TrainConfig(epochs=2, lr=0.2, warmup_epochs=2))
    assert rising == pytest.approx([0.2 * step / (2 * STEPS) for step in range(2 * STEPS)])


def test_milestones_count_from_the_beginning_of_training() -> None:
    config = TrainConfig(epochs=4, lr=1.0, schedule="step", milestones=(2, 3), warmup_epochs=1)
    assert [learning_rate(config, done) for done in (0.5, 1, 1.99, 2, 2.99, 3)] == pytest.approx(
        [0.5, 1, 1, 0.1, 0.1, 0.01]
    )


# The optimizer


NESTEROV = TrainConfig(epochs=2, batch_size=16, lr=0.02, weight_decay=0.01, schedule="step", device="cpu")
MOMENTUM = dataclasses.replace(NESTEROV, nesterov=False)
ADAM = dataclasses.replace(NESTEROV, optimizer="adam", damping=1e-6)
ADAMW = dataclasses.replace(ADAM, optimizer="adamw")
RMSPROP = dataclasses.replace(NESTEROV, optimizer="rmsprop", damping=0.5)


def steps(make: Any, n: int = 6) -> list[Tensor]:
    """Minimise a bent bowl."""
    x = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = make([x])
    path = []
    for _ in range(n):
        optimizer.zero_grad()
        (x**2 * torch.tensor([1.0, 3.0, 0.2]) + x.sin()).sum().backward()
        optimizer.step()
        path.append(x.detach().clone())
    return path


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (NESTEROV, lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=0.01, nesterov=True)),
        (MOMENTUM, lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=0.01)),
        (ADAM, lambda p: torch.optim.Adam(p, 0.02, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)),
        (ADAMW, lambda p: torch.optim.AdamW(p, 0.02, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01)),
    ],
)
def test_it_is_torch_s(config: TrainConfig, theirs: Any) -> None:
    ours = steps(lambda p: make_optimizer(config, p))
    assert all(torch.equal(a, b) for a, b in zip(ours, steps(theirs), strict=True))


class WrittenOut:
    """TensorFlow's RMSProp as its documentation gives it, with an L2 penalty in the gradient."""

    def __init__(self, x: nn.Parameter) -> None:
        self.x, self.mean, self.moment = x, torch.ones_like(x), torch.zeros_like(x)

    def zero_grad(self) -> None:
        self.x.grad = None

    def step(self) -> None:
        assert self.x.grad is not None
        with torch.no_grad():
            grad = self.x.grad + 0.01 * self.x
            self.mean = 0.9 * self.mean + 0.1 * grad**2
            self.moment = 0.9 * self.moment + 0.02 * grad / (self.mean + 0.5).sqrt()
            self.x.sub_(self.moment)


def test_rmsprop_is_tensorflow_s() -> None:
    ours = steps(lambda p: make_optimizer(RMSPROP, p))
    for a, b in zip(ours, steps(lambda p: WrittenOut(p[0])), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("config", [MOMENTUM, ADAM, ADAMW, RMSPROP], ids=["sgd", "adam", "adamw", "rmsprop"])
def test_the_loop_trains_with_it(config: TrainConfig) -> None:
    log = train(tiny_network(), tiny_images(), config=dataclasses.replace(config, epochs=6))
    assert log[-1].loss < 0.9 * log[0].loss


def test_gradients_are_clipped_to_a_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm over all parameters together, as torch's clipping has it; shorter ones are left alone."""
    norms: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *args: Any) -> Any:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    train(tiny_network(), tiny_images(), config=NESTEROV)
    free, limit = norms.copy(), sorted(norms)[2]
    norms.clear()
    train(tiny_network(), tiny_images(), config=dataclasses.replace(NESTEROV, clip_norm=limit, lr=1e-9))
    assert max(norms) <= limit * 1.0001
    assert max(free) > limit
    norms.clear()
    train(tiny_network(), tiny_images(), config=dataclasses.replace(NESTEROV, clip_norm=1e9))
    assert norms == free


# The strength of the noise over training


def test_eps_follows_its_schedule_and_is_afterwards_what_was_set() -> None:
    seen: list[float | None] = []
    for method, given in (("r@eps_schedule=early", Settings(0.4)), ("r", Settings(0.4, eps_schedule="early"))):
        seen.clear()
        model = tiny_network()
        note = functools.partial(_note_eps, model, seen)
        train(model, tiny_images(), method=method, settings=given, config=CONFIG, on_step=note)
        assert seen == pytest.approx([0.4 * max(0, 1 - 2 * step / 9) for step in range(9)])
        assert sites(model)[0].eps == 0.4


def _note_eps(model: nn.Module, seen: list[float | None], done: float) -> None:
    seen.append(sites(model)[0].eps)


def test_a_schedule_of_no_noise_is_base_bit_for_bit_and_a_constant_one_is_none() -> None:
    pairs: list[tuple[str, Any, str, Any]] = [
        ("base", {"eps_schedule": "early"}, "base", {}),
        ("r", {"eps_schedule": "constant"}, "r", {}),
    ]
    for method, settings, other, plain in pairs:
        models = tiny_network(dropout=0.5), tiny_network(dropout=0.5)
        train(models[0], tiny_images(), method=method, settings=Settings(**settings), config=CONFIG)
        train(models[1], tiny_images(), method=other, settings=Settings(**plain), config=CONFIG)
        assert same(*map(weights, models))


# BatchNorm's statistics after training


@pytest.mark.parametrize("method", ["base", "r", "gaussian"])
def test_statistics_without_noise_are_those_of_the_batches_that_follow(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights and the noise stay; each batch counts the same, the incomplete one of an epoch is left out."""
    monkeypatch.setattr(loop, "ENOUGH", 5)
    images, settings = tiny_images(50), Settings(eps=0.5, where="both")
    plain, updated = tiny_convolution(), tiny_convolution()
    train(plain, images, method=method, settings=settings, config=CONFIG, seed=2)
    train(updated, images, method=method, settings=settings, config=changed(update_bn=True), seed=2)
    order = torch.cat([epoch_order(50, 2, CONFIG.epochs + more)[:48] for more in (0, 1)])
    x = as_float(images)[0][order[: 5 * 16]]
    kernel, bias = list(plain.parameters())[:2]
    with torch.no_grad():
        outs = [F.conv2d((batch - 0.5) / 0.25, kernel, bias, padding=1) for batch in x.split(16)]
    mean = torch.stack([out.mean((0, 2, 3)) for out in outs]).mean(0)
    variance = torch.stack([out.var((0, 2, 3)) for out in outs]).mean(0)
    torch.testing.assert_close(updated[2].running_mean, mean)
    torch.testing.assert_close(updated[2].running_var, variance)
    assert not torch.allclose(plain[2].running_var, variance)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), updated.parameters(), strict=True))
    assert is_robust(updated) == (method != "base")
    assert updated[2].momentum == 0.1


# Pretrained networks: what is frozen, and what learns slowly


def frozen(freeze: Any, **changes: Any) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """Train a network with BatchNorm whose statistics are of its own; give it, and its weights of before."""
    model = tiny_convolution()
    model[2].get_buffer("running_mean").fill_(0.25)
    before = weights(model)
    train(model, tiny_images(), method="r", config=changed(freeze=freeze, update_bn=True, **changes))
    return model, before


@pytest.mark.parametrize("freeze", ["none", "bn", "backbone"])
def test_what_is_frozen_stays_and_nothing_else(freeze: str) -> None:
    model, before = frozen(freeze)
    kept = {name for name, tensor in weights(model).items() if torch.equal(tensor, before[name])}
    statistics = {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    last = [name for name, _ in model.named_parameters()][-2:]
    learn = {"none": [], "bn": statistics, "backbone": before.keys() - last}
    assert kept == {"0.mean", "0.std", *learn[freeze]}
    assert all(weight.requires_grad for weight in model.parameters()), "afterwards it is a network like any other"


@pytest.mark.parametrize("freeze", ["bn", "backbone"])
def test_frozen_statistics_are_used_in_training_and_noise_acts_all_the_same(freeze: str) -> None:
    """Also at an activation that is a part of its BatchNorm, as timm has it."""
    import timm

    model = timm.create_model("test_efficientnet", num_classes=3, in_chans=1)
    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    noisy: list[bool] = []

    def note(network: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        assert not any(layer.training for layer in layers)
        assert all(site_module.training for site_module in carriers(network))
        with torch.no_grad():
            noisy.append(not torch.equal(network(x), network(x)))
        return x, y

    method = dataclasses.replace(METHODS["r"], perturb_batch=note)
    images = tiny_images(info=tiny_info(shape=(1, 32, 32)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, images, method=method, config=changed(freeze=freeze, epochs=1, lr=1e-3))
    assert noisy == [True] * 3


def test_the_backbone_has_its_lower_rate_as_torch_has_it() -> None:
    ours, theirs, images = tiny_network(), tiny_network(), tiny_images(16)
    config = changed(ADAMW, epochs=4, backbone_lr_scale=0.1, schedule="step", batch_size=16, device="cpu")
    train(ours, images, config=config)
    rest, last = [*theirs.parameters()][:-2], [*theirs.parameters()][-2:]
    groups: Any = [{"params": rest, "lr": 0.002}, {"params": last}]
    optimizer = torch.optim.AdamW(groups, 0.02, eps=1e-6, weight_decay=0.01)
    x, y = as_float(images)
    for epoch in range(4):
        index = epoch_order(16, 0, epoch)
        optimizer.zero_grad()
        F.cross_entropy(theirs(x[index]), y[index]).backward()
        optimizer.step()
    assert same(weights(ours), weights(theirs))


def test_auto_is_calibrated_with_the_statistics_that_training_uses() -> None:
    images, model, twin = tiny_images(), tiny_convolution(), tiny_convolution()
    for network in (model, twin):
        network[2].get_buffer("running_var").fill_(9.0)
    config = changed(freeze="bn", epochs=1, augment=Augment())
    twin.train()[2].eval()
    x, y = as_float(images)
    order = epoch_order(len(images), 0, 0)[:AUTO_BATCH]
    wanted = calibrate(twin, (x[order], y[order]), 0.5)
    train(model, images, method="r", settings=Settings(eps="auto"), config=config)
    assert sites(model)[0].eps == wanted
    assert wanted != calibrate(tiny_convolution(), (x[order], y[order]), 0.5)


def test_a_network_without_a_last_layer_has_no_backbone() -> None:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 30), nn.Unflatten(1, (3, 10)), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    )
    with pytest.raises(InputError, match="the Sequential has no last layer of 3 outputs, beside which the rest"):
        train(model, tiny_images(), config=changed(freeze="backbone"))


# Trainings that are interrupted and resumed


FOUR_EPOCHS = TrainConfig(epochs=4, batch_size=16, lr=0.1, warmup_epochs=1, device="cpu")
CONFIGS = {
    "plain": FOUR_EPOCHS,
    "ema": dataclasses.replace(FOUR_EPOCHS, ema=0.9),
    "augmented": dataclasses.replace(FOUR_EPOCHS, augment=Augment(shift=1, flip=True, erase=0.5), label_smoothing=0.1),
    "channels-last": dataclasses.replace(FOUR_EPOCHS, channels_last=True, schedule="step", milestones=(2,)),
    "lower rate": dataclasses.replace(FOUR_EPOCHS, optimizer="adamw", lr=0.01, backbone_lr_scale=0.1),
    "frozen": dataclasses.replace(FOUR_EPOCHS, freeze="backbone"),
    "bf16": dataclasses.replace(FOUR_EPOCHS, precision="bf16-mixed", ema=0.9),
}


class Interrupted(Exception):
    pass


@pytest.fixture
def checkpoint_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1)


def fit_until(
    method: str, config: TrainConfig, out: Path | None, stop: float = math.inf, seed: int = 0
) -> tuple[nn.Module, list[Epoch]]:
    """Train a network with BatchNorm and dropout; die at a moment, in epochs."""

    def die(done: float) -> None:
        if done > stop:
            raise Interrupted

    model = tiny_convolution()
    images, validation = tiny_images(), tiny_images(20, seed=1, split="validation")
    log = train(model, images, method=method, config=config, out=out, on_step=die, validation=validation, seed=seed)
    return model, [dataclasses.replace(row, step_ms=0, seconds=0) for row in log]


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("method", ["base", "r", "fgsm", "r@eps_schedule=early", "r@eps=auto"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(method: str, kind: str, tmp_path: Path) -> None:
    """Weights, buffers and log, bit for bit, after dying twice in mid-epoch."""
    config = CONFIGS[kind]
    model, log = fit_until(method, config, None)
    for stop in (1.5, 2.9):
        torch.manual_seed(int(10 * stop))
        with pytest.raises(Interrupted):
            fit_until(method, config, tmp_path, stop)
    resumed, resumed_log = fit_until(method, config, tmp_path)
    assert resumed_log == log
    for name, tensor in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


AUTO_BATCH = 64


@pytest.mark.parametrize("method", ["r", "r@ratio=0.2@where=both", "gaussian@eps=auto"])
def test_auto_is_calibrated_on_the_first_images_and_the_initial_weights(method: str) -> None:
    policy, images = Augment(shift=1, flip=True), tiny_images()
    model, settings = tiny_convolution(), Settings(eps="auto")
    config = dataclasses.replace(FOUR_EPOCHS, epochs=1, augment=policy)
    own = settings_of(method, settings)
    order = epoch_order(len(images), 3, 0)[:AUTO_BATCH]
    [(x, y)] = training_batches(images, len(order), policy, seed=3, epoch=0, order=order, device=torch.device("cpu"))
    wanted = calibrate(tiny_convolution(), (x, y), own.ratio or 0, where=own.where)
    train(model, images, method=method, settings=settings, config=config, seed=3)
    assert {site.eps for site in sites(model)} == {wanted}
    twin = tiny_convolution()
    name = f"{method.partition('@')[0]}@eps={wanted}@where={own.where}"
    train(twin, images, method=name, config=config, seed=3)
    assert all(torch.equal(tensor, twin.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_base_asks_for_no_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "calibrate", lambda *_: pytest.fail("asked"))
    train(tiny_convolution(), tiny_images(), method="fgsm", settings=Settings(eps="auto"), config=CONFIG)


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_finished_epochs_are_not_trained_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit_until("r", FOUR_EPOCHS, tmp_path, 2.1)
    moments: list[float] = []
    train(
        tiny_convolution(), tiny_images(), method="r", config=FOUR_EPOCHS, out=tmp_path, on_step=moments.append,
        validation=tiny_images(20, seed=1, split="validation"),
    )  # fmt: skip
    assert moments[0] == pytest.approx(2 + 1 / 3)
    model, log = fit_until("r", FOUR_EPOCHS, tmp_path, stop=0)
    undisturbed, undisturbed_log = fit_until("r", FOUR_EPOCHS, None)
    assert log == undisturbed_log
    assert all(torch.equal(tensor, undisturbed.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_checkpoints_wait_until_enough_time_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 1000)
    with pytest.raises(Interrupted):
        fit_until("base", FOUR_EPOCHS, tmp_path, 3.5)
    assert not (tmp_path / "checkpoint.pt").exists()
    fit_until("base", FOUR_EPOCHS, tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_last_checkpoint_leaves_the_optimizer_out_and_ends_a_run_all_the_same(ema: float, tmp_path: Path) -> None:
    config = dataclasses.replace(FOUR_EPOCHS, ema=ema)
    model, log = fit_until("r", config, tmp_path)
    _, _, content = (tmp_path / "checkpoint.pt").read_bytes().partition(b"\n")
    stored = torch.load(io.BytesIO(content), weights_only=True)
    assert stored["state"].keys() == ({"model", "ema"} if ema else {"model"})
    again, same_log = fit_until("r", config, tmp_path, stop=0)
    assert same_log == log
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_a_loss_that_explodes_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    config = dataclasses.replace(FOUR_EPOCHS, lr=1e30, warmup_epochs=0, schedule="step", gamma=1e-30, milestones=(0,))
    exploding = dataclasses.replace(config, gamma=1.0)
    model = tiny_network()
    with pytest.raises(InputError, match="last checkpoint before it is kept"):
        train(model, tiny_images(), config=exploding, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


VALIDATION = tiny_images(20, seed=1, split="validation")


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
@pytest.mark.parametrize(
    ("given", "differs"),
    [
        ({"method": "r"}, "method is 'base' there and 'r' here"),
        ({"settings": Settings(p=0.4)}, "settings.p is 0.5 there and 0.4 here"),
        ({"config": dataclasses.replace(FOUR_EPOCHS, lr=0.2)}, "config.lr is 0.1 there and 0.2 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"validation": None}, "images.validation is .* there and None here"),
        ({"validation": tiny_images(20, seed=2)}, r"images.validation.pixels is '[0-9a-f]{8}\.\.\.' there and"),
    ],
)
@pytest.mark.parametrize("stop", [1.5, math.inf])
def test_the_checkpoint_of_another_run_is_refused(
    given: dict[str, Any], differs: str, stop: float, tmp_path: Path
) -> None:
    with contextlib.suppress(Interrupted):
        fit_until("base", FOUR_EPOCHS, tmp_path, stop)
    own: dict[str, Any] = {"method": "base", "config": FOUR_EPOCHS, "out": tmp_path, "validation": VALIDATION}
    told = f"checkpoint.pt belongs to other work: {differs}.* Delete it, or choose another folder with --out"
    with pytest.raises(InputError, match=told):
        train(tiny_convolution(), tiny_images(), **own | given)
    train(tiny_convolution(), tiny_images(), **own)


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
@pytest.mark.parametrize("model", [tiny_network(), nn.Sequential(tiny_convolution())])
def test_the_checkpoint_of_another_network_is_refused(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit_until("base", FOUR_EPOCHS, tmp_path, 1.5)
    with pytest.raises(InputError, match=r"the checkpoint in .* is of another network"):
        train(model, tiny_images(), config=FOUR_EPOCHS, out=tmp_path, validation=VALIDATION)


def shuffled(images: Images) -> Images:
    return dataclasses.replace(images, x=images.x.flip(0))


def swapped(images: Images) -> Images:
    return dataclasses.replace(images, y=torch.tensor([1, 0, 2])[images.y])


def lightened(images: Images) -> Images:
    x = images.x.clone()
    x[17, 0, 3, 3] ^= 1
    return dataclasses.replace(images, x=x)


def of_classes(images: Images, policy: Augment) -> Images:
    return dataclasses.replace(images, info=dataclasses.replace(images.info, augment=policy))


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (shuffled, "images.train.pixels"),
        (swapped, "images.train.labels"),
        (lightened, "images.train.pixels"),
        (lambda images: images.part(torch.arange(47)), "images.train.n is 48 there and 47 here"),
        (lambda images: of_classes(images, Augment(shift=1)), "augment.shift is 0 there and 1 here"),
    ],
)
@pytest.mark.parametrize("stop", [1.5, math.inf])
def test_the_checkpoint_of_other_images_is_refused(
    change: Callable[[Images], Images], differs: str, stop: float, tmp_path: Path
) -> None:
    """Whether the run was stopped or finished, and whatever their number, names and moments."""
    with contextlib.suppress(Interrupted):
        fit_until("base", FOUR_EPOCHS, tmp_path, stop)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match=f"checkpoint.pt belongs to other work: {differs}.*--out"):
        train(tiny_convolution(), change(tiny_images()), config=FOUR_EPOCHS, out=tmp_path, validation=VALIDATION)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_a_flipped_bit_anywhere_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit_until("base", FOUR_EPOCHS, tmp_path, 1.5)
    path, rng = tmp_path / "checkpoint.pt", random.Random(1)
    whole = path.read_bytes()
    for _ in range(12):
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"checkpoint.pt (is damaged|belongs to other work)"):
            fit_until("base", FOUR_EPOCHS, tmp_path)


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 not much more")
    with pytest.raises(InputError, match=r"checkpoint.pt is damaged: its first line is no header. Delete it"):
        fit_until("base", FOUR_EPOCHS, tmp_path)


@pytest.mark.usefixtures("checkpoint_after_each_epoch")
def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    torch.save({"identity": "base, seed 0", "state": {}, "log": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt is damaged: its first line is no header. Delete it"):
        fit_until("base", FOUR_EPOCHS, tmp_path)


def test_steps_that_are_timed_are_those_of_training_and_leave_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, rates = tiny_network(), tiny_images(), list[float]()
    step = loop._step

    def noted(*given: Any) -> Any:
        rates.append(given[-1])
        return step(*given)

    monkeypatch.setattr(loop, "_step", noted)
    job = loop.Job(METHODS["fgsm"], Settings(radius=0.05), CONFIG, 0, images, None, None, {})
    before = weights(model)
    times = loop.step_times(model, job)
    assert all(next(times) > 0 for _ in range(3))
    assert rates == [0.0] * 3
    assert same(before, weights(model))
