"""Several processes, of one command or started by hand, share the parts of a run: each part has a lock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock, Timeout

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

_Part = TypeVar("_Part")

SECONDS_BETWEEN_LOOKS = 0.5
"""How often a process looks whether a part that another is at is finished, or free."""


def locked(folder: Path, name: str) -> AbstractContextManager[object]:
    """Keep other processes out of a part of a run until the block, or this process, ends.

    Args:
        folder: Where the locks lie; made if missing.
        name: Name of the part.

    Returns:
        What holds the lock; leaving it gives the lock back.

    Raises:
        InputError: If the folder cannot be written, or its disk has no locks.
        Timeout: If another process has it.
    """
    lock = FileLock(folder / name, blocking=False, fallback_to_soft=False)  # a soft one outlives a killed process
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"cannot lock {folder / name}: {error}. Runs in one directory are kept apart by locks: choose, with --out, "
            "a folder that can be written, on a disk that has them."
        ) from error


def go_through(parts: Iterable[_Part], do: Callable[[_Part], bool]) -> None:
    """Do each part, or come back to it until another process has done it.

    Args:
        parts: What there is to do.
        do: Does a part; True if it is finished, False if another process is at it.
    """
    waiting = list(parts)
    while waiting:
        left = [part for part in waiting if not do(part)]
        if left == waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        waiting = left
