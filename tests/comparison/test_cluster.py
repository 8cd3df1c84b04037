"""A real cluster of Ray on this machine: every cell once, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cases import TINY
from resolute import comparison
from resolute.comparison import cluster
from resolute.errors import InputError
from resolute.records import read_records

LONGER = replace(TINY, train=replace(TINY.train, epochs=2))


def workers() -> list[int]:
    """List the processes in which Ray runs a cell now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::_cell"):
            found.append(int(folder.name))
    return found


def kill_one(killed: list[int]) -> None:
    while not killed:
        time.sleep(0.1)
        for worker in workers()[:1]:
            time.sleep(1)
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_runs_every_cell_once_although_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    killed: list[int] = []
    threading.Thread(target=kill_one, args=(killed,), daemon=True).start()
    comparison.compare(LONGER, tmp_path / "cluster", on="ray", jobs=2)
    assert len(killed) == 1
    comparison.compare(LONGER, tmp_path / "alone")
    rows = read_records(tmp_path / "cluster/records.jsonl")
    assert [(row.method, row.seed) for row in rows] == LONGER.cells
    assert rows == read_records(tmp_path / "alone/records.jsonl")
    for method, seed in LONGER.cells:
        weights = f"cells/{method}-seed{seed}/weights.safetensors"
        assert (tmp_path / "cluster" / weights).read_bytes() == (tmp_path / "alone" / weights).read_bytes()


def test_another_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--on got 'rya'; it is local, ray, or ray://HOST:PORT"):
        comparison.compare(TINY, tmp_path / "run", on="rya")
    assert not (tmp_path / "run").exists()


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"--on ray needs Ray: pip install 'resolute\[ray\]'"):
        cluster.run_on_ray(TINY, tmp_path, "ray", 2, print)
