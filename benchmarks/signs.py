"""Test the random signs: how often +, patterns of neighbours, correlation between places and between seeds.

Every figure is a z or the p of a chi-square test on as many signs as asked for (2^30 by default), in memory order.

    python benchmarks/signs.py --out results.json
    python benchmarks/signs.py --stream | dieharder -g 200 -d 0     a battery of somebody else's on the bits of p = 0.5
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clock
import numpy as np
import torch
from numpy.typing import NDArray  # noqa: TC002
from scipy import stats as laws

from resolute.noise import signs

CHUNK = 2**22
LAGS = (1, 2, 3, 31, 32, 33, 64, 1023, 1024, 1025, 32768)


def chunks(seed: int, p: float, n: int) -> Iterator[NDArray[np.bool_]]:
    """Draw the signs of one tensor of n elements, piece by piece."""
    for start in range(0, n, CHUNK):
        yield signs.draw(torch.tensor(seed), min(CHUNK, n - start), signs.level(p), start).numpy()


def frequency(p: float, n: int) -> float:
    """Z of the number of +, against the probability that p is rounded to."""
    exact = signs.level(p) / 2**16
    plus = sum(int(chunk.sum()) for chunk in chunks(1, p, n))
    return (plus - n * exact) / math.sqrt(n * exact * (1 - exact))


def patterns(bits: int, n: int) -> float:
    """P of the chi-square test that all patterns of some neighbouring signs are equally frequent."""
    counts = np.zeros(2**bits, dtype=np.int64)
    weights = 1 << np.arange(bits)
    for chunk in chunks(2, 0.5, n):
        whole = len(chunk) // bits * bits
        counts += np.bincount(chunk[:whole].reshape(-1, bits) @ weights, minlength=2**bits)
    return float(laws.chisquare(counts).pvalue)


def correlation(n: int) -> dict[str, float]:
    """Z of the correlation between signs at some distance, in one tensor and in those of neighbouring seeds."""
    equal = dict.fromkeys([*(f"lag {lag}" for lag in LAGS), "seeds 3 and 4", "seeds 3 and 3 + 2^32"], 0)
    pairs = dict.fromkeys(equal, 0)
    others = {"seeds 3 and 4": chunks(4, 0.5, n), "seeds 3 and 3 + 2^32": chunks(3 + 2**32, 0.5, n)}
    for chunk in chunks(3, 0.5, n):
        for lag in LAGS:
            equal[f"lag {lag}"] += int((chunk[lag:] == chunk[:-lag]).sum())
            pairs[f"lag {lag}"] += len(chunk) - lag
        for name, other in others.items():
            equal[name] += int((chunk == next(other)).sum())
            pairs[name] += len(chunk)
    return {name: (2 * equal[name] - pairs[name]) / math.sqrt(pairs[name]) for name in equal}


def stream() -> None:
    """Write the bits of one tensor without end, in memory order, for batteries that read them."""
    while True:
        for seed in range(2**31):
            for chunk in chunks(seed, 0.5, 2**33):
                sys.stdout.buffer.write(np.packbits(chunk).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2**30)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.stream:
        return stream()
    rows: list[dict[str, Any]] = []
    for p in (0.1, 0.3, 0.5, 0.9):
        rows.append({"test": f"frequency of +, p = {p}", "n": args.n, "z": round(frequency(p, args.n), 3)})
        print(rows[-1], flush=True)
    for bits in (8, 16):
        rows.append({"test": f"patterns of {bits} neighbours", "n": args.n, "p": round(patterns(bits, args.n), 4)})
        print(rows[-1], flush=True)
    for name, z in correlation(args.n).items():
        rows.append({"test": f"correlation, {name}", "n": args.n, "z": round(z, 3)})
        print(rows[-1], flush=True)
    return clock.write(args.out, rows)


if __name__ == "__main__":
    main()
