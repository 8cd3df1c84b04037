"""Several processes on one machine share the cells of a comparison."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from resolute.comparison.cell import load_splits, run_cell
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.comparison.cell import Splits
    from resolute.recipes import Recipe

SECONDS_BETWEEN_LOOKS = 0.5
"""How often a process looks whether a cell that another is at is finished, or free."""
_SECONDS_BETWEEN_WORDS = 0.2


def run_cells(
    recipe: Recipe,
    splits: Splits,
    out: Path,
    tell: Callable[[str, int, float], None],
    finished: Callable[[str, int], None],
) -> None:
    """Go through the cells until all are finished, by this process or by others.

    Args:
        recipe: What is compared, `resolved`.
        splits: Its images.
        out: The run directory.
        tell: Called after each step with method, seed and the epochs done so far.
        finished: Called with method and seed of each finished cell.
    """
    waiting = recipe.cells
    while waiting:
        left = []
        for method, seed in waiting:
            if run_cell(recipe, splits, method, seed, out, tell):
                finished(method, seed)
            else:
                left.append((method, seed))
        if left == waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        waiting = left


def run_in_processes(
    jobs: int,
    recipe: Recipe,
    out: Path,
    tell: Callable[[str, int, float], None],
    finished: Callable[[str, int], None],
) -> None:
    """Go through the cells in processes of their own.

    Args:
        jobs: How many; each computes with its share of the threads of this one.
        recipe: As in `run_cells`, and so are the others.
        out: The run directory.
        tell: See there.
        finished: See there.

    Raises:
        InputError: If training diverges in one of them.
        RuntimeError: If one of them dies.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    words: Any = context.Queue()
    threads = max(1, torch.get_num_threads() // jobs)
    workers = [context.Process(target=_work, args=(recipe, out, threads, words)) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        done: set[tuple[str, int]] = set()
        while len(done) < len(recipe.cells):
            try:
                word = words.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                _check_alive(workers)
                continue
            if isinstance(word, str):
                raise InputError(word)
            method, seed, epoch = word
            if epoch is not None:
                tell(method, seed, epoch)
            elif (method, seed) not in done:
                done.add((method, seed))
                finished(method, seed)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            worker.join()


def _check_alive(workers: list[Any]) -> None:
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    if dead:
        raise RuntimeError(f"a process of the comparison ended with {dead[0]}. The same call goes on from here.")


def _work(recipe: Recipe, out: Path, threads: int, words: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    said = [0.0]

    def tell(method: str, seed: int, epoch: float) -> None:
        if time.monotonic() - said[0] > _SECONDS_BETWEEN_WORDS:
            said[0] = time.monotonic()
            words.put((method, seed, epoch))

    try:
        run_cells(recipe, load_splits(recipe), out, tell, lambda method, seed: words.put((method, seed, None)))
    except InputError as error:
        words.put(str(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
