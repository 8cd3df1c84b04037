"""Time the equation beside what it competes with: a multiplication by a scalar, a copy, ReLU, Dropout.

Alternating runs; medians and minima; the median of each one's ratio to the multiplication of the same round.

    python benchmarks/op.py --sizes 10000,1000000 --out results.json
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clock
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.noise.perturb import perturb
from resolute.noise.robustify import robustify

Run = Callable[[Tensor], Tensor]

PASSES: dict[str, Run] = {
    "multiply": lambda x: x * 1.1,
    "clone": torch.clone,
    "relu": torch.relu,
    "dropout": lambda x: F.dropout(x, 0.1),
    "perturb": lambda x: perturb(x, 0.1),
    "perturb, p = 0.3": lambda x: perturb(x, 0.1, 0.3),
    "perturb, channels": lambda x: perturb(x.view(10, 10, -1), 0.1, grain="channel"),
    "perturb, samples": lambda x: perturb(x.view(10, -1), 0.1, grain="sample"),
    "perturbed relu": robustify(nn.ReLU(), 0.1),
    "formula": lambda x: x + 0.1 * x * (2 * torch.bernoulli(torch.full_like(x, 0.5)) - 1) * x.sign(),
}


def rows(n: int, dtype: torch.dtype, device: str, repeats: int) -> list[dict[str, Any]]:
    x = torch.randn(n, device=device).to(dtype)
    seconds = clock.alternate({name: functools.partial(run, x) for name, run in PASSES.items()}, repeats, warm_up=3)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return [
        {
            "pass": name,
            "elements": n,
            "dtype": str(dtype).removeprefix("torch."),
            "median_us": round(1e6 * median[name], 2),
            "minimum_us": round(1e6 * min(values), 2),
            "gb_per_s": round(2 * x.nbytes / median[name] / 1e9, 2),
            "of_copy_rate": round(median["clone"] / median[name], 3),
            "to_multiply": round(clock.ratio(seconds, name, "multiply"), 3),
            "minimum_to_multiply": round(min(values) / min(seconds["multiply"]), 3),
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000,3000000,10000000,30000000")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=0, help="0: as many as 3e8 elements take, 9 to 300")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    for n in map(int, args.sizes.split(",")):
        repeats = args.repeats or min(300, max(9, 3 * 10**8 // n))
        results += rows(n, getattr(torch, args.dtype), args.device, repeats)
        for row in results[-len(PASSES) :]:
            print(
                f"{row['elements']:>9} {row['pass']:<18} {row['median_us']:>10.1f} us {row['gb_per_s']:>7.2f} GB/s "
                f"{row['of_copy_rate']:>6.2f} of copy {row['to_multiply']:>7.2f} x multiply",
                flush=True,
            )
    clock.write(args.out, results)


if __name__ == "__main__":
    main()
