"""Compare in children of one process that has imported everything, and kill the children with SIGKILL.

Run as ``python killed.py FOLDER [MOMENTS]``. Below FOLDER it leaves ``undisturbed``, ``writes`` (killed at every write,
before or after the file got its name) and ``moments-N`` (killed at random moments), each gone on with until finished.
It prints how many children were killed in which way, and how many of the runs differ from the undisturbed one in any
byte of their records, weights, bits or descriptions. With MOMENTS above 6, finished runs are deleted.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2  # noqa: F401  imported before forking, as everything that a child would import
import lightning_fabric  # noqa: F401
import matplotlib.figure  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.stats  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch

from resolute.config import TrainConfig
from resolute.experiment import grid
from resolute.experiment.recipe import Recipe
from resolute.training import loop

if TYPE_CHECKING:
    from collections.abc import Callable

MOMENTS = 6
RECIPE = Recipe(
    name="tiny",
    data="digits",
    model="lenet",
    methods=("base", "r"),
    seeds=(0, 1),
    suites=("clean", "noise"),
    train=TrainConfig(epochs=2, batch_size=270, lr=0.05, device="cpu"),
)


def start(out: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Compare in a child, which first calls ``prepare``; give its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            loop._SECONDS_BETWEEN_CHECKPOINTS = -1
            prepare()
            grid.compare(RECIPE, out)
            code = 0
        finally:
            os._exit(code)
    return child


def was_killed(child: int) -> bool:
    """Wait for a child; it may finish or be killed, and nothing else."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a child ended with {code}")
    return code != 0


def die_at_write(number: int) -> Callable[[], None]:
    """Make a process that kills itself at its ``number``-th write: odd ones before the renaming, even ones after."""

    def prepare() -> None:
        rename, written = Path.replace, [0]

        def replace(self: Path, target: Any) -> Path:
            written[0] += 1
            if written[0] == number and number % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = rename(self, target)
            if written[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        Path.replace = replace  # type: ignore[assignment, method-assign]

    return prepare


FILES = ("weights.safetensors", "bits.npz", "records.jsonl", "model.json")


def outcome(out: Path) -> dict[str, bytes]:
    """Read everything of a run that does not depend on time."""
    cells = sorted(out.glob("cells/*"))
    files = [out / "records.jsonl", *(cell / name for cell in cells if cell.is_dir() for name in FILES)]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def main(folder: Path, wanted: int = MOMENTS) -> None:
    """Kill and go on, in both ways, and print the counts."""
    torch.set_num_threads(1)
    begin = time.monotonic()
    assert not was_killed(start(folder / "undisturbed"))
    duration = time.monotonic() - begin

    writes = 1
    while was_killed(start(folder / "writes", die_at_write(writes))):
        writes += 1

    expected = outcome(folder / "undisturbed")
    differing = int(outcome(folder / "writes") != expected)
    rng, moments, runs = random.Random(0), 0, 0
    while moments < wanted:
        out = folder / f"moments-{runs}"
        child = start(out)
        time.sleep(rng.uniform(0.05, 0.6) * duration)
        os.kill(child, signal.SIGKILL)
        killed = was_killed(child)
        moments += killed
        if killed and moments < wanted:
            continue
        while was_killed(start(out)):
            pass
        runs, differing = runs + 1, differing + (outcome(out) != expected)
        if wanted > MOMENTS:
            print(f"{moments} kills, {runs} runs, {differing} differ", flush=True)
            shutil.rmtree(out)
    print(json.dumps({"writes": writes - 1, "moments": moments, "runs": runs, "differing": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
