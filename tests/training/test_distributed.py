"""What processes that others start are taken for: torchrun's and srun's tasks, and the shell of an sbatch job."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cases import TINY
from resolute.config import TrainConfig
from resolute.errors import InputError
from resolute.experiment import grid
from resolute.training.distributed import joins, make_fabric, rank

if TYPE_CHECKING:
    from pathlib import Path

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
