"""A real cluster of Ray on this machine: every cell once, also where a worker is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from cases import TINY
from resolute.cli import app
from resolute.errors import InputError
from resolute.experiment import grid
from resolute.experiment.workers import run_on_ray
from resolute.run_folder import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator

TWO_CELLS = replace(TINY, seeds=(0,), train=replace(TINY.train, epochs=2))


def parents(process: int) -> list[int]:
    """List a process and those above it."""
    found = [process]
    while found[-1] > 1:
        found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    return found


def workers() -> list[int]:
    """List the processes below this one in which Ray runs a cell now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::_cell") and os.getpid() in parents(int(folder.name)):
                found.append(int(folder.name))
    return found


def kill_one(killed: list[int]) -> None:
    while not killed:
        time.sleep(0.1)
        for worker in workers()[:1]:
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_runs_every_cell_once_although_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    killed: list[int] = []
    threading.Thread(target=kill_one, args=(killed,), daemon=True).start()
    grid.compare(TWO_CELLS, tmp_path / "cluster", on="ray", jobs=2)
    assert len(killed) == 1
    grid.compare(TWO_CELLS, tmp_path / "alone")
    rows = read_records(tmp_path / "cluster/records.jsonl")
    assert [(row.method, row.seed) for row in rows] == TWO_CELLS.cells
    assert rows == read_records(tmp_path / "alone/records.jsonl")
    for method, seed in TWO_CELLS.cells:
        weights = f"cells/{method}-seed{seed}/weights.safetensors"
        assert (tmp_path / "cluster" / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()


@pytest.fixture
def head() -> Iterator[str]:
    """Start a cluster by the documented command, on ports that are free, and give its address."""
    pytest.importorskip("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port=0", "--num-cpus=1"]
    options = [f"--ray-client-server-port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"ray://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_runs_already_is_joined(head: str, tmp_path: Path) -> None:
    flags = ["compare", "--methods", "base", "--seeds", "1", "--epochs", "1", "--suites", "clean", "--device", "cpu"]
    runs = [tmp_path / "cluster", tmp_path / "alone"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    command = [sys.executable, "-m", "resolute", *flags, "--on", head, "--out", str(runs[0])]
    for _ in range(3):  # the process that Ray's cluster forks for a client now and then ends at once
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if "no cluster of Ray answers" not in ran.stderr:
            break
    assert ran.returncode == 0, ran.stderr
    assert CliRunner().invoke(app, [*flags, "--out", str(runs[1])]).exit_code == 0
    assert len({(out / "records.jsonl").read_bytes() for out in runs}) == 1


def test_another_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--on got 'rya'; it is local, ray, or ray://HOST:PORT"):
        grid.compare(TINY, tmp_path / "run", on="rya")
    assert not (tmp_path / "run").exists()


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"--on ray needs Ray: pip install 'resolute\[ray\]'"):
        run_on_ray(TINY, tmp_path, "ray", 2, print)
