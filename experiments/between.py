"""Compare two runs of the same methods and seeds that differ in one setting: the second less the first, paired by seed.

    cd experiments/results
    python ../between.py digits-wrn-16-1/* digits-wrn-16-1-update-bn/*

A line for each method and suite that both have: error in % of each, difference in points with its interval over seeds
at the level of its p, which is after Holm over the lines.
"""

from __future__ import annotations

import sys
from pathlib import Path

import runs
from rich.console import Console
from rich.table import Table

from resolute.errors import InputError
from resolute.stats import compare_seeds, find, mean_t


def main(first: str, second: str) -> None:
    (one, before), (other, after) = runs.read(Path(first)), runs.read(Path(second))
    if one["seeds"] != other["seeds"]:
        raise InputError(f"seeds are {one['seeds']} and {other['seeds']}: there is nothing to pair.")
    shared = [key for key in before if key in after]
    found = find([compare_seeds(after[key] - before[key]) for key in shared], "seeds")
    table = Table("method", "suite", "first, %", "second, %", "second less first, points", "p", "verdict")
    for key, own in ((key, own) for key, own in zip(shared, found, strict=True) if own):
        change = own.difference
        means = [f"{mean_t(errors[key]).mean:.2f}" for errors in (before, after)]
        difference = f"{change.mean:+.2f} ({change.low:+.2f} to {change.high:+.2f})"
        table.add_row(*key, *means, difference, f"{own.p_holm:.3f}", own.verdict)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
