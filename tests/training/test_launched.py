"""Two processes that torchrun starts, on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LAST = """import atexit, os, pathlib, sys
def look():
    if "RANK" in os.environ:
        pathlib.Path(__file__).with_name(os.environ["RANK"]).write_text(str(sys.modules["torch"].distributed.is_initialized()))
atexit.register(look)
"""
FLAGS = ["train", "--data", "digits", "--epochs", "2", "--device", "cpu", "--devices", "2", "--suites", "clean,noise"]


def resolute(*launcher: str, out: Path) -> str:
    places = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "resolute", *FLAGS, "--out", str(out)]
    return subprocess.run(command, env=places, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_torchrun_trains_and_judges_what_our_own_processes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(LAST)  # registered first, so called last
    monkeypatch.syspath_prepend(tmp_path)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    shown = resolute(*launcher, out=tmp_path / "launched")
    assert shown == resolute(out=tmp_path / "own").replace("own", "launched")  # the folder
    assert shown.count("wrong of 898") == 4
    for name in ("weights.safetensors", "records.jsonl"):
        assert (tmp_path / "launched" / name).read_bytes() == (tmp_path / "own" / name).read_bytes()
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["False", "False"], "the group outlived training"
