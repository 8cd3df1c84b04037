"""Draw clean error against the share of the training set, a column a data set and a line a method.

    cd experiments/results
    python ../size.py ../../docs/size.svg mnist-fraction-*/* mnist-controls/* cifar10-fraction-*/* cifar10-wrn-16-1/*

The runs of a data set must differ in `--train-fraction` and epochs alone. Methods that are not in all of them are left
out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
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
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Errors = dict[float, dict[str, NDArray[np.float64]]]

COLOURS = {"base": "#666666", "r": "#d55e00", "r@where=input": "#0072b2", "gaussian": "#009e73"}
SPREAD = 1.06
"""Methods of one share stand side by side: factor from one to the next."""


def label(method: str, recipe: dict[str, object]) -> str:
    settings = settings_of(method, Settings(**recipe["settings"]))  # type: ignore[arg-type]
    name = {"r": "R", "gaussian": "gaussian"}.get(method.partition("@")[0])
    return f"{name}, {settings.where}, eps {settings.eps:g}" if name else method


def draw(above: Axes, below: Axes, found: Errors, labels: dict[str, str]) -> None:
    shares = sorted(found)
    methods = [method for method in COLOURS if all(method in found[share] for share in shares)]
    for place, method in enumerate(methods):
        at = [100 * share * SPREAD ** (place - (len(methods) - 1) / 2) for share in shares]
        for axes, over in ((above, None), (below, "base")):
            if method == over:
                continue
            rows = [mean_t(found[share][method] - (found[share][over] if over else 0)) for share in shares]
            means = [row.mean for row in rows]
            reach = [[row.mean - row.low for row in rows], [row.high - row.mean for row in rows]]
            axes.errorbar(
                at, means, reach, color=COLOURS[method], marker="o", ms=4, lw=1.2, capsize=2, label=labels[method]
            )
    above.set_yscale("log")
    above.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    above.yaxis.set_major_formatter("{x:g}")
    above.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    below.axhline(0, color=COLOURS["base"], lw=1)
    for axes in (above, below):
        axes.set_xscale("log")
        axes.set_xticks([100 * share for share in shares], [f"{100 * share:g} %" for share in shares])
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.spines[["top", "right"]].set_visible(False)
    below.set_xlabel("share of the training set")


def main(out: str, *folders: str) -> None:
    found: dict[str, Errors] = defaultdict(dict)
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in folders:
        recipe, errors = runs.read(Path(folder))
        title = f"{Path(recipe['data_info']['name']).name}, {recipe['model']}"
        found[title][recipe["train_fraction"]] = {m: own for (m, suite), own in errors.items() if suite == "clean"}
        labels[title] |= {method: label(method, recipe) for method in recipe["methods"]}
    with mpl.rc_context({"svg.hashsalt": "resolute", "svg.fonttype": "none", "font.size": 9}):
        size = (4.6 * len(found), 5)
        figure, panels = plt.subplots(2, len(found), figsize=size, layout="constrained", squeeze=False, sharex="col")
        for (above, below), (title, errors_of) in zip(panels.T, found.items(), strict=True):
            draw(above, below, errors_of, labels[title])
            above.set_title(title, loc="left", fontsize=10)
            above.legend(frameon=False, fontsize=8)
        panels[0][0].set_ylabel("clean error, %")
        panels[1][0].set_ylabel("less base, points")
        figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
