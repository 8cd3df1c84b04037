"""Several processes, or a real cluster of Ray on this machine, share the cells; what goes wrong in one is told."""

from __future__ import annotations

import contextlib
import multiprocessing
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
import torch
from typer.testing import CliRunner

from cases import TINY
from resolute.cli import app
from resolute.errors import InputError
from resolute.experiment import cell, grid
from resolute.experiment.workers import run_in_processes, run_on_ray
from resolute.run_folder import cell_name, read_records

if TYPE_CHECKING:
    from collections.abc import Callable

    Workers = Callable[[], list[multiprocessing.process.BaseProcess]]
    from collections.abc import Iterator


@pytest.fixture
def one_thread() -> object:
    """Sums in another order would be other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    grid.compare(TINY, tmp_path / "one")
    summary = grid.compare(TINY, tmp_path / "two", jobs=2)
    assert summary.missing == ()
    files = ["records.jsonl", *(f"cells/{m}-seed{s}/weights.safetensors" for m, s in TINY.cells)]
    for file in files:
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_warning_of_a_process_is_a_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without the line of code; nor does Fabric tell the precision for each network."""
    train = replace(TINY.train, epochs=1, precision="bf16-mixed")
    grid.compare(replace(TINY, methods=("base", "r@ratio=1000"), seeds=(0,), train=train), tmp_path, jobs=2)
    told = " ".join(capfd.readouterr().err.split())
    assert "warning: noise-to-signal 1000.0 is more than eps can give here: at eps 0.95, which is taken, it is" in told
    assert "UserWarning" not in told
    assert "Precision" not in told


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_mistake_in_a_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss became nan in epoch 1"):
        grid.compare(replace(TINY, train=replace(TINY.train, lr=1e30)), tmp_path, jobs=2)


@pytest.fixture
def workers() -> Workers:
    """Give the processes that this test started, without those that another may have left."""
    others = multiprocessing.active_children()
    return lambda: [child for child in multiprocessing.active_children() if child not in others]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_what_a_killed_process_leaves_the_others_take_up(tmp_path: Path, workers: Workers) -> None:
    info = cell.load_splits(TINY).test.info
    recipe = TINY.resolved(info.augment, info.radius)
    finished: list[tuple[str, int]] = []

    def tell(method: str, seed: int, epoch: float) -> None:
        if len(workers()) == 2:
            workers()[0].kill()

    with pytest.warns(RuntimeWarning, match=r"was killed by SIGKILL: is the memory full\? 1 continue with its cell"):
        run_in_processes(2, recipe, tmp_path, tell, lambda *cell: finished.append(cell))
    assert sorted(finished) == sorted(recipe.cells)
    assert all((tmp_path / "cells" / cell_name(*cell) / "records.jsonl").exists() for cell in recipe.cells)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_run_whose_last_process_is_killed_ends_with_a_sentence(tmp_path: Path, workers: Workers) -> None:
    info = cell.load_splits(TINY).test.info
    recipe = TINY.resolved(info.augment, info.radius)

    def tell(method: str, seed: int, epoch: float) -> None:
        for worker in workers():
            worker.kill()

    with pytest.raises(InputError, match=r"the last process of the comparison was killed by SIGKILL: is the memory"):
        run_in_processes(1, recipe, tmp_path, tell, print)


@pytest.mark.usefixtures("one_thread")
def test_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jobs is 0"):
        grid.compare(TINY, tmp_path / "run", jobs=0)


TWO_CELLS = replace(TINY, seeds=(0,), train=replace(TINY.train, epochs=2))


def parents(process: int) -> list[int]:
    """List a process and those above it."""
    found = [process]
    while found[-1] > 1:
        found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    return found


def ray_workers() -> list[int]:
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
        for worker in ray_workers()[:1]:
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
