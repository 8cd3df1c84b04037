"""Many machines share the cells of a comparison: each cell is a task of Ray, which runs it again if its worker dies."""

from __future__ import annotations

import functools
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.comparison.cell import Splits, load_splits, run_cell
from resolute.errors import InputError
from resolute.sharing import SECONDS_BETWEEN_LOOKS

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolute.recipes import Recipe

RETRIES = 10
"""How often a cell is run again because its worker died; each time it goes on from its checkpoint."""


def check_place(on: str) -> None:
    """Refuse a place that is none.

    Args:
        on: ``"local"``, ``"ray"`` or ``"ray://HOST:PORT"``.

    Raises:
        InputError: If it is something else.
    """
    if on not in ("local", "ray") and not on.startswith("ray://"):
        raise InputError(f"--on got {on!r}; it is local, ray, or ray://HOST:PORT of a cluster that is running.")


def run_on_ray(recipe: Recipe, out: Path, on: str, jobs: int, finished: Callable[[str, int], None]) -> None:
    """Go through the cells on a cluster.

    Args:
        recipe: What is compared, `resolved`.
        out: The run directory, on a disk that all machines share.
        on: ``"ray"`` for a cluster of this machine alone, or ``"ray://HOST:PORT"``.
        jobs: Cells at a time.
        finished: Called with method and seed of each finished cell.

    Raises:
        InputError: If Ray is not installed or does not answer, or a cell is refused.
    """
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
                    "where its worker died. Ray's logs say why; the same command goes on."
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
