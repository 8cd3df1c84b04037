"""Draw step times: `python benchmarks/figure.py docs/speed.svg RESULT.json ...`, results of step.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

COLOURS = {"r": "#0072b2", "other": "#999999", "base": "#444444"}


def main(out: str, *results: str) -> None:
    panels = [json.loads(Path(path).read_text())["results"] for path in results]
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False, layout="constrained")
    for axis, rows in zip(axes[0], panels, strict=True):
        names = [row["mode"] for row in rows]
        ratios = [row["to_base"] for row in rows]
        spans = [
            [r - row["to_base_quartiles"][0], row["to_base_quartiles"][1] - r]
            for r, row in zip(ratios, rows, strict=True)
        ]
        colours = [COLOURS["base" if name == "base" else "r" if name.startswith("r ") else "other"] for name in names]
        axis.barh(names, ratios, color=colours, xerr=list(zip(*spans, strict=True)), error_kw={"lw": 0.8})
        for k, ratio in enumerate(ratios):
            axis.text(0.05, k, f"{ratio:.2f}", va="center", color="white", fontsize=8, fontweight="bold")
        axis.invert_yaxis()
        axis.axvline(1, color="black", lw=0.8, ls=":")
        how = "compiled" if rows[0]["compiled"] else "eager"
        network, batch, side = rows[0]["network"].split(":")
        axis.set_title(f"{network.removeprefix('timm/')}, batch {batch}, {side} px, {how}", fontsize=9)
        axis.set_xlabel("time of a training step / plain step")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
