"""Train, kill, resume and compare for a while: ``python tests/soak.py MINUTES [FOLDER]``.

One process compares a tiny recipe again and again; between, children of it do so, are killed at random moments and
gone on with. After each round it prints its memory, open files and threads, and whether every byte that does not depend
on time is what it was in the first round. It ends with 1 if a run differs or if one of the three has grown.
"""

from __future__ import annotations

import gc
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from resolute.experiment import grid

KILLED = runpy.run_path(str(Path(__file__).with_name("experiment") / "killed.py"))
WARM = 3
GROWTH_MB = 32


def state() -> dict[str, float]:
    """Measure this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len(list(Path("/proc/self/fd").iterdir()))
    return {"MB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20, "files": files, "threads": threading.active_count()}


def killed_again_and_again(out: Path, rng: random.Random) -> int:
    """Kill children until one has finished; give the number of kills."""
    kills = 0
    while True:
        child = KILLED["start"](out)
        time.sleep(rng.uniform(0.2, 4.0))
        os.kill(child, signal.SIGKILL)
        if not KILLED["was_killed"](child):
            return kills
        kills += 1


def main(minutes: float, folder: Path) -> int:
    """Go round until the time is over."""
    end, rng, expected, kills = time.monotonic() + 60 * minutes, random.Random(0), None, 0
    seen: list[dict[str, float]] = []
    while time.monotonic() < end or len(seen) <= 2 * WARM:
        own, theirs = folder / "own", folder / "killed"
        grid.compare(KILLED["RECIPE"], own)
        kills += killed_again_and_again(theirs, rng)
        expected = expected or KILLED["outcome"](own)
        same = KILLED["outcome"](own) == expected == KILLED["outcome"](theirs)
        seen.append(state())
        print(f"round {len(seen)}, {kills} kills, {'the same' if same else 'DIFFERS'}, {seen[-1]}", flush=True)
        if not same:
            return 1
        shutil.rmtree(own)
        shutil.rmtree(theirs)
    early, late = seen[WARM : len(seen) // 2 + 1], seen[len(seen) // 2 :]
    grown = {
        name: median(s[name] for s in late) - median(s[name] for s in early) for name in ("MB", "files", "threads")
    }
    flat = grown["MB"] < GROWTH_MB and grown["files"] <= 0 and grown["threads"] <= 0
    print(f"{len(seen)} rounds, {kills} kills, growth from the first half to the second: {grown}")
    return 0 if flat else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(main(float(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else scratch)))
