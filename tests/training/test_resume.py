from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from cases import tiny_convolution, tiny_images, tiny_network
from resolute.config import Augment, Settings, TrainConfig
from resolute.errors import InputError
from resolute.training import loop
from resolute.training.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from resolute.data.dataset import Images
    from resolute.training.checkpoint import Epoch

CONFIG = TrainConfig(epochs=4, batch_size=16, lr=0.1, warmup_epochs=1, device="cpu")
CONFIGS = {
    "plain": CONFIG,
    "ema": dataclasses.replace(CONFIG, ema=0.9),
    "augmented": dataclasses.replace(CONFIG, augment=Augment(shift=1, flip=True, erase=0.5), label_smoothing=0.1),
    "channels-last": dataclasses.replace(CONFIG, channels_last=True, schedule="step", milestones=(2,)),
    "bf16": dataclasses.replace(CONFIG, precision="bf16-mixed", ema=0.9),
}


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def checkpoint_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1)


def fit(
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


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("method", ["base", "r", "fgsm"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(method: str, kind: str, tmp_path: Path) -> None:
    """Weights, buffers and log, bit for bit, after dying twice in mid-epoch."""
    config = CONFIGS[kind]
    model, log = fit(method, config, None)
    for stop in (1.5, 2.9):
        torch.manual_seed(int(10 * stop))
        with pytest.raises(Interrupted):
            fit(method, config, tmp_path, stop)
    resumed, resumed_log = fit(method, config, tmp_path)
    assert resumed_log == log
    for name, tensor in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_finished_epochs_are_not_trained_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit("r", CONFIG, tmp_path, 2.1)
    moments: list[float] = []
    train(
        tiny_convolution(), tiny_images(), method="r", config=CONFIG, out=tmp_path, on_step=moments.append,
        validation=tiny_images(20, seed=1, split="validation"),
    )  # fmt: skip
    assert moments[0] == pytest.approx(2 + 1 / 3)
    model, log = fit("r", CONFIG, tmp_path, stop=0)
    undisturbed, undisturbed_log = fit("r", CONFIG, None)
    assert log == undisturbed_log
    assert all(torch.equal(tensor, undisturbed.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_checkpoints_wait_until_enough_time_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", 1000)
    with pytest.raises(Interrupted):
        fit("base", CONFIG, tmp_path, 3.5)
    assert not (tmp_path / "checkpoint.pt").exists()
    fit("base", CONFIG, tmp_path)
    assert (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_last_checkpoint_leaves_the_optimizer_out_and_ends_a_run_all_the_same(ema: float, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, ema=ema)
    model, log = fit("r", config, tmp_path)
    _, _, content = (tmp_path / "checkpoint.pt").read_bytes().partition(b"\n")
    stored = torch.load(io.BytesIO(content), weights_only=True)
    assert stored["state"].keys() == ({"model", "ema"} if ema else {"model"})
    again, same_log = fit("r", config, tmp_path, stop=0)
    assert same_log == log
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_loss_that_explodes_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, lr=1e30, warmup_epochs=0, schedule="step", gamma=1e-30, milestones=(0,))
    exploding = dataclasses.replace(config, gamma=1.0)
    model = tiny_network()
    with pytest.raises(InputError, match="last checkpoint before it is kept"):
        train(model, tiny_images(), config=exploding, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


VALIDATION = tiny_images(20, seed=1, split="validation")


@pytest.mark.parametrize(
    ("given", "differs"),
    [
        ({"method": "r"}, "method is 'base' there and 'r' here"),
        ({"settings": Settings(p=0.4)}, "settings.p is 0.5 there and 0.4 here"),
        ({"config": dataclasses.replace(CONFIG, lr=0.2)}, "config.lr is 0.1 there and 0.2 here"),
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
        fit("base", CONFIG, tmp_path, stop)
    own: dict[str, Any] = {"method": "base", "config": CONFIG, "out": tmp_path, "validation": VALIDATION}
    told = f"checkpoint.pt belongs to other work: {differs}.* Delete it, or choose another folder with --out"
    with pytest.raises(InputError, match=told):
        train(tiny_convolution(), tiny_images(), **own | given)
    train(tiny_convolution(), tiny_images(), **own)


@pytest.mark.parametrize("model", [tiny_network(), tiny_convolution(classes=4)])
def test_the_checkpoint_of_another_network_is_refused(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit("base", CONFIG, tmp_path, 1.5)
    with pytest.raises(InputError, match=r"the checkpoint in .* is of another network"):
        train(model, tiny_images(), config=CONFIG, out=tmp_path, validation=VALIDATION)


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
        fit("base", CONFIG, tmp_path, stop)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match=f"checkpoint.pt belongs to other work: {differs}.*--out"):
        train(tiny_convolution(), change(tiny_images()), config=CONFIG, out=tmp_path, validation=VALIDATION)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        fit("base", CONFIG, tmp_path, 1.5)
    path, rng = tmp_path / "checkpoint.pt", random.Random(1)
    whole = path.read_bytes()
    for _ in range(12):
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"checkpoint.pt (is damaged|belongs to other work)"):
            fit("base", CONFIG, tmp_path)


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 not much more")
    with pytest.raises(InputError, match=r"checkpoint.pt is damaged: its first line is no header. Delete it"):
        fit("base", CONFIG, tmp_path)


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    torch.save({"identity": "base, seed 0", "state": {}, "log": []}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt is damaged: its first line is no header. Delete it"):
        fit("base", CONFIG, tmp_path)
