from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from filelock import Timeout

from resolute.run_folder import go_through, locked

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    with locked(tmp_path / "locks", "a"):
        with pytest.raises(Timeout):
            locked(tmp_path / "locks", "a")
        with locked(tmp_path / "locks", "b"):
            pass
    with locked(tmp_path / "locks", "a"):
        pass


def test_parts_are_shared_and_each_is_done_once(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def work(worker: int) -> None:
        def do(part: int) -> bool:
            file = tmp_path / f"{part}.done"
            try:
                with locked(tmp_path / "locks", str(part)):
                    if not file.exists():
                        time.sleep(0.01)
                        done.append((part, worker))
                        file.touch()
            except Timeout:
                pass
            return file.exists()

        go_through(range(12), do)
        assert len(list(tmp_path.glob("*.done"))) == 12, "nobody leaves before all parts are done"

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(3)))
    assert sorted(part for part, _ in done) == list(range(12))
    assert len({worker for _, worker in done}) > 1
