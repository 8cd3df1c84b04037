"""Draw error against eps, a panel a suite and a line a place, from the records of `resolute compare`.

    cd experiments/results
    python ../strength.py ../../docs/strength.svg digits-controls/* digits-eps-*/*

The runs must differ in eps and place of R alone: base and FGSM are taken from the first that has them.
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

COLOURS = {"input": "#0072b2", "hidden": "#d55e00", "both": "#009e73"}
TITLES = {"clean": "clean", "disturbances": "five disturbances", "noise": "Gaussian noise", "fgsm": "FGSM attack"}
GREY = "#666666"


def errors(run: Path) -> dict[tuple[str, str, float], dict[str, Interval]]:
    """Read a run: for each method, place and eps the error in % by suite, with its interval over seeds."""
    recipe, wrong = runs.read(run)
    settings = Settings(**recipe["settings"])
    found: dict[tuple[str, str, float], dict[str, Interval]] = {}
    for method in recipe["methods"]:
        set_to = settings_of(method, settings)
        name = method.partition("@")[0]
        key = (name, str(set_to.where), set_to.eps) if name == "r" else (name, "", 0.0)
        for suite in recipe["suites"]:
            found.setdefault(key, {})[suite] = mean_t(wrong[method, suite])
    return found


def draw(axes: Axes, suite: str, found: dict[tuple[str, str, float], dict[str, Interval]]) -> None:
    base = found["base", "", 0.0][suite]
    axes.axhspan(base.low, base.high, color=GREY, alpha=0.15, lw=0)
    axes.axhline(base.mean, color=GREY, lw=1)
    axes.text(0.92, base.mean, "base", color=GREY, va="center", fontsize=8)
    for place, colour in COLOURS.items():
        points = sorted((eps, row[suite]) for (name, where, eps), row in found.items() if (name, where) == ("r", place))
        points = [(0.0, base), *points]
        at = [eps for eps, _ in points]
        axes.plot(at, [error.mean for _, error in points], color=colour, marker="o", ms=3, lw=1.4, label=place)
        axes.fill_between(at, [e.low for _, e in points], [e.high for _, e in points], color=colour, alpha=0.12, lw=0)
    if ("fgsm", "", 0.0) in found:
        fgsm = found["fgsm", "", 0.0][suite].mean
        axes.axhline(fgsm, color="#000000", lw=1, ls=":")
        axes.text(0.92, fgsm, "FGSM", va="center", fontsize=8)
    axes.set_title(TITLES[suite], loc="left", fontsize=10)
    axes.set_xlim(0, 0.91)
    axes.set_ylim(0 if suite == "clean" else None)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("eps")


def main(out: str, *folders: str) -> None:
    found: dict[tuple[str, str, float], dict[str, Interval]] = {}
    for folder in folders:
        found = errors(Path(folder)) | found
    with mpl.rc_context({"svg.hashsalt": "resolute", "svg.fonttype": "none", "font.size": 9}):
        figure, panels = plt.subplots(1, len(TITLES), figsize=(11.5, 2.9), layout="constrained")
        for axes, suite in zip(panels, TITLES, strict=True):
            draw(axes, suite, found)
        panels[0].set_ylabel("error, %")
        panels[0].legend(frameon=False, title="noise at", fontsize=8, loc="lower left")
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
