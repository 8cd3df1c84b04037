"""The steps of an epoch against a loop written by hand: their images, rates, losses, averages."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import as_float, tiny_convolution, tiny_images, tiny_info, tiny_network
from resolute.attacks import evaluating
from resolute.config import Augment, Settings, TrainConfig
from resolute.data.augment import augment
from resolute.data.dataset import Images, augment_generator, epoch_order
from resolute.errors import InputError
from resolute.noise import signs
from resolute.training.loop import learning_rate, train
from training.watching import CONFIG, PLAIN, changed, same, watcher, weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    model[2].register_forward_hook(lambda _module, _args, out: dtypes.add(out.dtype))
    log = train(model, tiny_images(), method="r+fgsm", config=changed(precision="bf16-mixed", epochs=5))
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
