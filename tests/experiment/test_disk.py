"""Disks that are full, cannot be written or have no locks: the run says what to do, and then goes on."""

from __future__ import annotations

import errno
import os
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from resolute.errors import InputError
from resolute.experiment import grid
from resolute.experiment.cell import load_splits, run_cell
from resolute.training import loop

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLED = runpy.run_path(str(Path(__file__).with_name("killed.py")))
RECIPE, outcome = KILLED["RECIPE"], KILLED["outcome"]
mounts = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root may mount a small disk")


def mount(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mount("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder)
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be mounted here")
    yield folder
    mount("umount", "-l", folder)


@mounts
@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_words_and_with_room_it_goes_on_to_the_same_end(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1)
    with pytest.raises(
        InputError, match=r"cannot write .*: No space left on device\. Make room; the same command goes"
    ):
        grid.compare(RECIPE, small / "run")
    assert not list(small.rglob(".*.npz.*")), "a half-written file stayed"
    mount("mount", "-o", "remount,size=64m", small)
    grid.compare(RECIPE, small / "run")
    grid.compare(RECIPE, tmp_path / "undisturbed")
    assert outcome(small / "run") == outcome(tmp_path / "undisturbed")


@mounts
def test_a_disk_that_cannot_be_written_is_told(small: Path) -> None:
    (small / "run").mkdir()
    mount("mount", "-o", "remount,ro", small)
    with pytest.raises(
        InputError, match=r"cannot lock .*: .*Read-only file system.*choose, with --out, a folder that can be written"
    ):
        grid.compare(RECIPE, small / "run")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match=r"cannot lock .*claim.*a folder that can be written, on a disk that has them"):
        grid.compare(RECIPE, tmp_path / "run")


def test_a_lock_that_somebody_holds_is_no_error(tmp_path: Path) -> None:
    cell = tmp_path / "run/cells/base-seed0"
    (tmp_path / "run/.locks").mkdir(parents=True)
    splits = load_splits(RECIPE)
    with FileLock(tmp_path / "run/.locks/base-seed0"):
        assert not run_cell(
            RECIPE.resolved(splits.test.info.augment, splits.test.info.radius), splits, "base", 0, tmp_path / "run"
        )
    assert not cell.exists()
