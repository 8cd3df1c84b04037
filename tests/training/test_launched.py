"""Two processes that torchrun starts, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FLAGS = ["train", "--data", "digits", "--epochs", "2", "--device", "cpu", "--devices", "2", "--suites", "clean,noise"]


def resolute(*launcher: str, out: Path) -> str:
    places = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "resolute", *FLAGS, "--out", str(out)]
    return subprocess.run(command, env=places, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_torchrun_trains_and_judges_what_our_own_processes_do(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    shown = resolute(*launcher, out=tmp_path / "launched")
    assert shown == resolute(out=tmp_path / "own")
    assert shown.count("wrong of 898") == 4
    for name in ("weights.safetensors", "records.jsonl"):
        assert (tmp_path / "launched" / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
