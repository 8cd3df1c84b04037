"""Fully sharded training, in two gloo processes of this machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from cases import tiny_convolution, tiny_images
from ranks import stopped
from resolute.config import Settings, TrainConfig
from resolute.errors import InputError
from resolute.models import build
from resolute.training import distributed
from resolute.training.loop import train

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.methods import Method
    from resolute.training.checkpoint import Epoch

DDP = TrainConfig(epochs=3, batch_size=16, lr=0.05, clip_norm=1.0, device="cpu", devices=2)
FSDP = dataclasses.replace(DDP, strategy="fsdp")


def network() -> nn.Module:
    """A network with BatchNorm, one of whose blocks is large enough to be a unit."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = nn.Sequential(nn.Linear(3, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 3))
    return nn.Sequential(tiny_convolution(), block)


def fit(config: TrainConfig, method: str | Method, out: Path | None = None) -> tuple[nn.Module, list[Epoch]]:
    model = network()
    log = train(
        model, tiny_images(), method=method, settings=Settings(0.3), config=config, out=out,
        validation=tiny_images(21, seed=1),
    )  # fmt: skip
    return model, log


def same(one: tuple[nn.Module, list[Epoch]], other: tuple[nn.Module, list[Epoch]], rtol: float) -> None:
    for name, tensor in one[0].state_dict().items():
        torch.testing.assert_close(other[0].state_dict()[name], tensor, rtol=rtol, atol=rtol / 10, msg=name)
    for row, their in zip(one[1], other[1], strict=True):
        assert their.loss == pytest.approx(row.loss, rel=rtol)
        assert (their.train_error, their.validation_error) == (row.train_error, row.validation_error)


@pytest.mark.slow
def test_sharded_weights_are_trained_as_whole_ones_and_gone_on_with(tmp_path: Path) -> None:
    sharded = fit(FSDP, "r")
    same(fit(DDP, "r"), sharded, 1e-4)
    method = stopped(tmp_path)
    with pytest.raises(InputError, match=r"a process that trained has ended \(.*SIGTERM\)\. The last checkpoint is"):
        fit(FSDP, method, tmp_path / "run")
    stored = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert len(stored["log"]) == 2
    assert stored["state"]["model"].keys() == network().state_dict().keys()
    same(sharded, fit(FSDP, method, tmp_path / "run"), 0)
    assert len(list(tmp_path.glob("step-*"))) == 9


def test_units_are_blocks_that_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "UNIT", 10_000)
    model = build("wrn-16-2", classes=10)
    found = distributed.units(model)
    taken = [parameter for unit in found for parameter in unit.parameters()]
    assert len(found) > 4
    for unit in found:
        own = [parameter for parameter in unit.parameters() if sum(parameter is other for other in taken) == 1]
        assert sum(parameter.numel() for parameter in own) >= 10_000
        assert any(True for _ in unit.children())
    assert model not in found


def test_lists_of_modules_are_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "UNIT", 1)
    model = nn.ModuleDict({"all": nn.ModuleList([nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)])})
    assert distributed.units(model) == [model["all"][0]]  # type: ignore[index]


def test_a_network_that_prunes_itself_is_refused() -> None:
    with pytest.raises(InputError, match="prunes its own weights in training: use 'ddp'"):
        distributed.shard(build("condensenet-g8", classes=10, shape=(3, 16, 16)), torch.device("cpu"), 2)


@pytest.mark.parametrize("wrong", [{"devices": 1}, {"ema": 0.9}])
def test_what_cannot_be_sharded_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"strategy is 'fsdp'; it must be ddp, or fsdp over several devices"):
        dataclasses.replace(FSDP, **wrong)
