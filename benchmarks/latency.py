"""Time the first use in fresh processes, with empty caches and full ones: the C++ kernel, torch.compile of a network.

python benchmarks/latency.py --network wrn-16-2:16:32 --out results.json
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import clock

FIRST_STEP = """
import sys, time, torch
from resolute import models, robustify
name, batch, side = sys.argv[1].split(":")
channels = 1 if name == "lenet" else 3
model = models.build(name, classes=10, shape=(channels, int(side), int(side))).train()
if "r" in sys.argv[2:]:
    robustify(model)
run = torch.compile(model) if "compiled" in sys.argv[2:] else model
x = torch.rand(int(batch), channels, int(side), int(side))
begin = time.perf_counter()
run(x).square().mean().backward()
print(time.perf_counter() - begin)
"""


def first_step(network: str, how: list[str], caches: Path) -> float:
    """Give the seconds of the first forward and backward pass in a process of its own."""
    places = {"XDG_CACHE_HOME": str(caches), "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST_STEP, network, *how],
        env=os.environ | places,
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="wrn-16-2:16:32")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for how in ([], ["r"], ["compiled"], ["r", "compiled"]):
        with tempfile.TemporaryDirectory() as caches:
            cold, cached = (first_step(args.network, how, Path(caches)) for _ in range(2))
        rows.append(
            {"network": args.network, "how": how or ["base"], "cold_s": round(cold, 2), "cached_s": round(cached, 2)}
        )
        print(rows[-1], flush=True)
    clock.write(args.out, rows)


if __name__ == "__main__":
    main()
