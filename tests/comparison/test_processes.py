"""Several processes share the cells, and what goes wrong in one is told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from cases import TINY
from resolute import comparison
from resolute.comparison import processes
from resolute.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def one_thread() -> object:
    """Sums in another order would be other weights."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    comparison.compare(TINY, tmp_path / "one")
    summary = comparison.compare(TINY, tmp_path / "two", jobs=2)
    assert summary.missing == ()
    files = ["records.jsonl", *(f"cells/{m}-seed{s}/weights.safetensors" for m, s in TINY.cells)]
    for file in files:
        assert (tmp_path / "two" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()


@pytest.mark.slow
def test_a_mistake_in_a_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss became nan in epoch 1"):
        comparison.compare(replace(TINY, train=replace(TINY.train, lr=1e30)), tmp_path, jobs=2)


def test_a_process_that_died_ends_the_run() -> None:
    alive, finished, killed = (SimpleNamespace(exitcode=code) for code in (None, 0, -9))
    processes._check_alive([alive, finished])
    with pytest.raises(RuntimeError, match="ended with -9"):
        processes._check_alive([alive, finished, killed])


def test_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jobs is 0"):
        comparison.compare(TINY, tmp_path / "run", jobs=0)
