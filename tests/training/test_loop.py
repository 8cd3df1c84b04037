from __future__ import annotations

import dataclasses
import functools
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import as_float, tiny_convolution, tiny_images, tiny_info, tiny_network
from resolute import counter, is_robust, sites, train
from resolute.attacks import evaluating
from resolute.data import Augment, Images, augment, augment_generator, epoch_order
from resolute.errors import InputError
from resolute.methods import METHODS, Method, Settings
from resolute.training import Epoch, TrainConfig, learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = TrainConfig(epochs=3, batch_size=16, lr=0.1, device="cpu")
PLAIN = dataclasses.replace(CONFIG, schedule="step")


def changed(config: TrainConfig = CONFIG, **changes: Any) -> TrainConfig:
    return dataclasses.replace(config, **changes)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def untimed(log: list[Epoch]) -> list[Epoch]:
    return [dataclasses.replace(row, step_ms=0, seconds=0) for row in log]


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
        torch.manual_seed(counter.key(seed, "epoch", epoch, 0))
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


def watcher(seen: list[tuple[Tensor, Tensor]]) -> Method:
    def watch(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        seen.append((x.clone(), y.clone()))
        return x, y

    return Method("watched", METHODS["base"].prepare, watch, 1, "base, watched")


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
    """The same images in the same order for each; and at eps 0 the same training."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {"base": [], "r": []}
    config, images = changed(augment=Augment(shift=1)), tiny_images()
    for name, watched in seen.items():
        method = dataclasses.replace(watcher(watched), prepare=METHODS[name].prepare)
        train(tiny_network(), images, method=method, config=config)
    for (x, y), (other_x, other_y) in zip(*seen.values(), strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    trained = {name: tiny_network() for name in ("base", "r", "gaussian")}
    for name, model in trained.items():
        train(model, images, method=name, settings=Settings(eps=0.0), config=config)
    assert same(weights(trained["base"]), weights(trained["r"]))
    assert same(weights(trained["base"]), weights(trained["gaussian"]))


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


@pytest.mark.parametrize("method", ["base", "r", "gaussian"])
def test_statistics_without_noise_are_those_of_one_more_epoch(method: str) -> None:
    """The weights and the noise stay; each batch counts the same, the incomplete one is left out."""
    images, settings = tiny_images(50), Settings(eps=0.5, where="both")
    plain, updated = tiny_convolution(), tiny_convolution()
    train(plain, images, method=method, settings=settings, config=CONFIG, seed=2)
    train(updated, images, method=method, settings=settings, config=changed(update_bn=True), seed=2)
    x = as_float(images)[0][epoch_order(50, 2, CONFIG.epochs)[:48]]
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
