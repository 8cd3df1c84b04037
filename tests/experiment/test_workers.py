"""Several processes share the cells, and what goes wrong in one is told."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from cases import TINY
from resolute.errors import InputError
from resolute.experiment import cell, grid
from resolute.experiment.workers import run_in_processes
from resolute.run_folder import cell_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Workers = Callable[[], list[multiprocessing.process.BaseProcess]]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    """Sums in another order would be other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    grid.compare(TINY, tmp_path / "one")
    summary = grid.compare(TINY, tmp_path / "two", jobs=2)
    assert summary.missing == ()
    files = ["records.jsonl", *(f"cells/{m}-seed{s}/weights.safetensors" for m, s in TINY.cells)]
    for file in files:
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


@pytest.mark.slow
def test_a_mistake_in_a_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss became nan in epoch 1"):
        grid.compare(replace(TINY, train=replace(TINY.train, lr=1e30)), tmp_path, jobs=2)


@pytest.fixture
def workers() -> Workers:
    """Give the processes that this test started, without those that another may have left."""
    others = multiprocessing.active_children()
    return lambda: [child for child in multiprocessing.active_children() if child not in others]


@pytest.mark.slow
def test_what_a_killed_process_leaves_the_others_take_up(tmp_path: Path, workers: Workers) -> None:
    info = cell.load_splits(TINY).test.info
    recipe = TINY.resolved(info.augment, info.radius)
    finished: list[tuple[str, int]] = []

    def tell(method: str, seed: int, epoch: float) -> None:
        if len(workers()) == 2:
            workers()[0].kill()

    with pytest.warns(RuntimeWarning, match=r"was killed by SIGKILL: is the memory full\? 1 go on with its cell"):
        run_in_processes(2, recipe, tmp_path, tell, lambda *cell: finished.append(cell))
    assert sorted(finished) == sorted(recipe.cells)
    assert all((tmp_path / "cells" / cell_name(*cell) / "records.jsonl").exists() for cell in recipe.cells)


@pytest.mark.slow
def test_a_run_whose_last_process_is_killed_ends_with_a_sentence(tmp_path: Path, workers: Workers) -> None:
    info = cell.load_splits(TINY).test.info
    recipe = TINY.resolved(info.augment, info.radius)

    def tell(method: str, seed: int, epoch: float) -> None:
        for worker in workers():
            worker.kill()

    with pytest.raises(InputError, match=r"the last process of the comparison was killed by SIGKILL: is the memory"):
        run_in_processes(1, recipe, tmp_path, tell, print)


def test_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jobs is 0"):
        grid.compare(TINY, tmp_path / "run", jobs=0)
