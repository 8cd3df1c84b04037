"""Several processes that others start or that Fabric starts, with whole and with sharded weights."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from cases import TINY, tiny_convolution, tiny_images, tiny_network
from ranks import killed, overflowing, stopped, watched
from resolute.config import Augment, Settings, TrainConfig
from resolute.data.dataset import epoch_order
from resolute.errors import InputError
from resolute.experiment import grid
from resolute.models import build
from resolute.training import distributed
from resolute.training.distributed import joins, make_fabric, rank
from resolute.training.loop import train

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.methods import Method
    from resolute.training.checkpoint import Epoch

ONE = TrainConfig(device="cpu")
TWO = replace(ONE, devices=2)
BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "wrap", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = BATCH | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}


@pytest.fixture(params=["srun", "torchrun"])
def task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the second of two tasks."""
    places = {"srun": STEP | {"SLURM_NTASKS_PER_NODE": "2"}, "torchrun": TORCHRUN}[request.param]
    for name, value in places.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("task")
def test_a_task_joins_where_several_devices_train() -> None:
    assert joins(TWO)
    assert rank(TWO) == 1
    fabric = make_fabric(TWO)
    assert (fabric.world_size, fabric.global_rank) == (2, 1)


@pytest.mark.usefixtures("task")
def test_a_task_goes_its_own_way_where_one_device_trains(tmp_path: Path) -> None:
    assert not joins(ONE)
    assert rank(ONE) == 0
    assert make_fabric(ONE).world_size == 1
    recipe = replace(TINY, methods=("base",), seeds=(0,))
    assert grid.compare(recipe, tmp_path / "run").missing == ()
    with pytest.raises(InputError, match="2 processes were started, and each would train the whole network"):
        grid.train_one(recipe, tmp_path / "one")


@pytest.mark.usefixtures("task")
def test_a_count_that_differs_is_refused() -> None:
    with pytest.raises(InputError, match="2 processes were started for 4 devices on each of 1 machines"):
        make_fabric(replace(ONE, devices=4))


def test_the_shell_of_a_batch_job_is_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BATCH.items():
        monkeypatch.setenv(name, value)
    assert make_fabric(ONE).world_size == 1
    assert not joins(TWO)


def test_a_job_that_fabric_cannot_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"the SLURM job cannot be used: .*--ntasks-per-node=2"):
        make_fabric(TWO)


def test_fabric_does_not_load_what_it_asks_the_version_of() -> None:
    code = """
import sys
from resolute.training import TrainConfig
from resolute.training.distributed import make_fabric
make_fabric(TrainConfig(device="cpu"))
from lightning_fabric.utilities import imports
print("torchmetrics" in sys.modules, imports._TORCHMETRICS_GREATER_EQUAL_1_0_0)
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert shown == "False True\n"


# Two processes that torchrun starts


LAST = """import atexit, os, pathlib, sys
def look():
    if "RANK" in os.environ:
        pathlib.Path(__file__).with_name(os.environ["RANK"]).write_text(str(sys.modules["torch"].distributed.is_initialized()))
atexit.register(look)
"""
FLAGS = ["train", "--data", "digits", "--epochs", "2", "--device", "cpu", "--devices", "2", "--suites", "clean,noise"]


def run_resolute(*launcher: str, out: Path) -> str:
    places = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "resolute", *FLAGS, "--out", str(out)]
    return subprocess.run(command, env=places, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_torchrun_trains_and_judges_what_our_own_processes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(LAST)  # registered first, so called last
    monkeypatch.syspath_prepend(tmp_path)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    shown = run_resolute(*launcher, out=tmp_path / "launched")
    assert shown == run_resolute(out=tmp_path / "own").replace("own", "launched")  # the folder
    assert shown.count("wrong of 898") == 4
    for name in ("weights.safetensors", "records.jsonl"):
        assert (tmp_path / "launched" / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["False", "False"], "the group outlived training"


# Two processes that Fabric starts


ONE_PROCESS = TrainConfig(epochs=2, batch_size=16, lr=0.1, device="cpu")
TWO_PROCESSES = dataclasses.replace(ONE_PROCESS, devices=2)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_batches(tmp_path: Path) -> None:
    images, together, alone = tiny_images(50), tiny_network(), tiny_network()
    torch.use_deterministic_algorithms(True)
    try:
        log = train(
            together, images, method=watched(tmp_path), config=TWO_PROCESSES, seed=3, validation=images, on_step=print
        )
    finally:
        torch.use_deterministic_algorithms(False)
    expected = train(alone, images, config=ONE_PROCESS, seed=3, validation=images)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert [row.loss for row in log] == pytest.approx([row.loss for row in expected], rel=1e-4)
    assert [row.train_error for row in log] == pytest.approx([row.train_error for row in expected])
    assert [row.validation_error for row in log] == [row.validation_error for row in expected]

    for step in range(6):
        parts = [torch.load(tmp_path / f"{rank}-{step}.pt") for rank in (0, 1)]
        order = epoch_order(50, 3, step // 3)[16 * (step % 3) : 16 * (step % 3) + 16]
        assert torch.equal(torch.cat([part["y"] for part in parts]), images.y[order])
        assert not torch.equal(parts[0]["noise"], parts[1]["noise"])
        assert all(part["switched"] for part in parts)
    assert not (tmp_path / "0-6.pt").exists()


@pytest.mark.slow
def test_global_noise_is_what_one_process_draws() -> None:
    images, losses = tiny_images(48), []
    for config in (TWO_PROCESSES, ONE_PROCESS):
        model = tiny_network()
        config = dataclasses.replace(config, global_noise=True)
        log = train(model, images, method="r", settings=Settings(0.5, 0.3, "both"), config=config)
        losses.append([row.loss for row in log])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_is_refused_by_all(tmp_path: Path) -> None:
    config = dataclasses.replace(TWO_PROCESSES, lr=1e30, augment=Augment(shift=1), schedule="step")
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch 1"):
        train(tiny_network(), tiny_images(), config=config, out=tmp_path)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r"a process that trained has ended \(.*SIGKILL\)\. Is the memory full\?"):
        train(tiny_network(), tiny_images(), method=killed(), config=TWO_PROCESSES)


@pytest.mark.slow
def test_a_process_without_memory_ends_the_training_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^out of memory \(.*can't allocate memory"):
        train(tiny_network(), tiny_images(), method=overflowing(), config=TWO_PROCESSES)


# Fully sharded training, in two gloo processes of this machine


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
    _, _, content = (tmp_path / "run/checkpoint.pt").read_bytes().partition(b"\n")
    stored = torch.load(io.BytesIO(content), weights_only=True)
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
