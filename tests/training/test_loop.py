"""What a whole training depends on, and what it leaves."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cases import tiny_images, tiny_network
from resolute.config import Augment, Settings
from resolute.methods import METHODS
from resolute.noise.robustify import is_robust
from resolute.noise.sites import sites
from resolute.training.loop import train
from training.watching import CONFIG, changed, same, watcher, weights

if TYPE_CHECKING:
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
