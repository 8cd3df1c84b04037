"""Draw what the noise does against its calibrated strength: a line a network, from the records of `resolute compare`.

    cd experiments/results
    python ../strength.py ../../docs/strength.svg "LeNet, digits=digits-lenet-ratios/2026-11-30_amd-epyc-2-cores" ...

Each run holds base and R at several ratios, by `r@ratio=...` or `resolute tune`. A panel shows the change of a suite's
error relative to base, in points, with the 95 % interval over paired seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
import runs
from matplotlib import pyplot as plt

from resolute.config import Settings
from resolute.methods import settings_of
from resolute.stats import mean_t

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from resolute.stats import Interval

SUITES = {"clean": "clean images", "disturbances": "five disturbances"}
LIMITS = {"clean": (-2.5, 2.5), "disturbances": (-4, 2)}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
GREY = "#666666"


def changes(run: Path, suite: str) -> list[tuple[float, Interval]]:
    """Read a run: R's ratios, ascending, and the change of the error relative to base, in points."""
    recipe, wrong = runs.read(run)
    settings, base = Settings(**recipe["settings"]), wrong[recipe["baseline"], suite]
    found = {}
    for method in recipe["methods"]:
        own = settings_of(method, settings)
        if method.partition("@")[0] == "r" and own.ratio is not None and not own.unusual and own.where == "hidden":
            found[own.ratio] = wrong[method, suite] - base
    alike = {ratio for ratio in found for less in found if less < ratio and (found[less] == found[ratio]).all()}
    # those have the same networks: even the largest eps gives less
    return [(ratio, mean_t(found[ratio])) for ratio in sorted(found.keys() - alike)]


def draw(axes: Axes, suite: str, networks: dict[str, Path]) -> None:
    axes.axhline(0, color=GREY, lw=1)
    for colour, (name, run) in zip(COLOURS, networks.items(), strict=False):
        at, change = zip(*changes(run, suite), strict=True)
        axes.plot(at, [each.mean for each in change], color=colour, marker="o", ms=3.5, lw=1.5, label=name)
        low, high = ([getattr(each, end) for each in change] for end in ("low", "high"))
        axes.fill_between(at, low, high, color=colour, alpha=0.12, lw=0)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.3, 1, 2.5, 5], ["0.1", "0.3", "1", "2.5", "5"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(*LIMITS[suite])
    axes.set_title(SUITES[suite], loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("noise-to-signal ratio before training")


def main(out: str, *named: str) -> None:
    networks = {name: Path(folder) for name, _, folder in (each.partition("=") for each in named)}
    with mpl.rc_context({"svg.hashsalt": "resolute", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = plt.subplots(1, len(SUITES), figsize=(9.5, 3.6), layout="constrained", sharey=False)
        for axes, suite in zip(panels, SUITES, strict=True):
            draw(axes, suite, networks)
        panels[0].set_ylabel("change of the error, points")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False, fontsize=8)
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
