"""Several processes, on one machine or on many (Ray), share the cells of a run."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
import warnings
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from resolute.errors import InputError, in_words
from resolute.experiment.cell import Splits, load_splits, run_cell
from resolute.progress import say_warning
from resolute.run_folder import SECONDS_BETWEEN_LOOKS, go_through

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resolute.experiment.recipe import Recipe


_SECONDS_BETWEEN_WORDS = 0.2


def run_cells(
    recipe: Recipe,
    splits: Splits,
    out: Path,
    tell: Callable[[str, int, float], None],
    finished: Callable[[str, int], None],
) -> None:
    """Go through the cells until all are finished, by this process or by others."""

    def run(cell: tuple[str, int]) -> bool:
        done = run_cell(recipe, splits, *cell, out, tell)
        if done:
            finished(*cell)
        return done

    go_through(recipe.cells, run)


def run_in_processes(
    jobs: int,
    recipe: Recipe,
    out: Path,
    tell: Callable[[str, int, float], None],
    finished: Callable[[str, int], None],
) -> None:
    """Go through the cells in processes of their own; what one leaves that is killed, the others take up."""
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    threads = max(1, torch.get_num_threads() // jobs)
    workers: dict[Any, Any] = {}  # by the pipe that each speaks through: a queue's lock could die with one
    done: set[tuple[str, int]] = set()
    try:
        for _ in range(jobs):
            ours, theirs = context.Pipe(duplex=False)
            workers[ours] = context.Process(target=_work, args=(recipe, out, threads, theirs))
            workers[ours].start()
            theirs.close()
        words = _words(workers)
        while len(done) < len(recipe.cells):
            method, seed, epoch = next(words)
            if epoch is not None:
                tell(method, seed, epoch)
            elif (method, seed) not in done:
                done.add((method, seed))
                finished(method, seed)
    finally:
        for worker in workers.values():
            if worker.is_alive():
                worker.terminate()
        for worker in workers.values():
            worker.join()


def _words(workers: dict[Any, Any]) -> Iterator[tuple[str, int, float | None]]:
    """Give what the processes say, (method, seed, epochs or None at the end), and let go those that have ended."""
    while workers:
        spoken: list[Any] = wait(list(workers))
        for pipe in spoken:
            try:
                word = pipe.recv()
            except (EOFError, OSError):
                _let_go(workers.pop(pipe), len(workers))
                continue
            if isinstance(word, str):
                raise InputError(word)
            yield word


def _let_go(worker: Any, left: int) -> None:
    """See how a process ended: one that was killed is no loss while others are left."""
    worker.join()
    code = worker.exitcode
    if code == 0:
        return
    end = f"was killed by {signal.Signals(-code).name}: is the memory full?" if code < 0 else f"ended with {code}."
    if not left:
        raise InputError(
            f"the last process of the comparison {end} Fewer --jobs or a smaller --batch-size need less memory. "
            "The same command continues from here."
        )
    warnings.warn(f"a process of the comparison {end} {left} continue with its cell.", RuntimeWarning, stacklevel=3)


def _work(recipe: Recipe, out: Path, threads: int, pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    warnings.showwarning = say_warning  # type: ignore[assignment]
    said = [0.0]

    def tell(method: str, seed: int, epoch: float) -> None:
        if time.monotonic() - said[0] > _SECONDS_BETWEEN_WORDS:
            said[0] = time.monotonic()
            pipe.send((method, seed, epoch))

    try:
        run_cells(recipe, load_splits(recipe), out, tell, lambda method, seed: pipe.send((method, seed, None)))
    except (ValueError, RuntimeError, MemoryError, OSError) as error:
        told = in_words(error)
        if told is None:
            raise
        pipe.send(str(told))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


RETRIES = 10
"""How often a cell is run again because its worker died; each time it continues from its checkpoint."""


def check_place(on: str) -> None:
    """Refuse a place that is none."""
    if on not in ("local", "ray") and not on.startswith("ray://"):
        raise InputError(f"--on got {on!r}; it is local, ray, or ray://HOST:PORT of a cluster that is running.")


def run_on_ray(recipe: Recipe, out: Path, on: str, jobs: int, finished: Callable[[str, int], None]) -> None:
    """Go through the cells on a cluster."""
    if on != "ray":
        _give_token()
    try:
        import ray
    except ImportError as error:
        raise InputError(f"--on {on} needs Ray: pip install 'resolute[ray]'.") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the client's, before it raises the same
            ray.init(**_place(on, jobs), include_dashboard=False, log_to_driver=False, configure_logging=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no cluster of Ray answers at {on} ({error}). Start one: ray start --head; look whether its port can "
            "be reached from here, and copy ~/.ray/auth_token of its machine to this one."
        ) from error
    try:
        _go_through(ray, recipe, out.resolve(), jobs, finished)
    finally:
        ray.shutdown()


def _give_token() -> None:
    """Send Ray's token where there is one: its client does so only if it is told before the import, and hangs else."""
    places = os.environ.get("RAY_AUTH_TOKEN"), os.environ.get("RAY_AUTH_TOKEN_PATH")
    if any(places) or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _place(on: str, jobs: int) -> dict[str, Any]:
    return {"address": "local", "num_cpus": jobs} if on == "ray" else {"address": on}


def _go_through(ray: Any, recipe: Recipe, out: Path, jobs: int, finished: Callable[[str, int], None]) -> None:
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_cell)
    waiting = list(recipe.cells)
    running: dict[Any, tuple[str, int]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            method, seed = waiting.pop(0)
            running[task.remote(recipe, method, seed, out)] = method, seed
        for done in ray.wait(list(running), num_returns=1)[0]:
            place = running.pop(done)
            try:
                is_finished = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise InputError(f"{place[0]}, seed {place[1]}: {error.cause}") from error
            except ray.exceptions.RayError as error:
                raise InputError(
                    f"{place[0]}, seed {place[1]}: Ray gave up ({type(error).__name__}), after up to {RETRIES} retries "
                    "where its worker died. Ray's logs say why; the same command continues."
                ) from error
            if is_finished:
                finished(*place)
            else:  # somebody else is at it
                waiting.append(place)
                time.sleep(SECONDS_BETWEEN_LOOKS)


def _cell(recipe: Recipe, method: str, seed: int, out: Path) -> bool:
    return run_cell(recipe, _splits(recipe), method, seed, out)


@functools.lru_cache(maxsize=1)
def _splits(recipe: Recipe) -> Splits:
    return load_splits(recipe)
