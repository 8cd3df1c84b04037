"""How many steps it takes to leave a saddle: gradient descent, SGD, both with g, and equal-power Gaussian factors.

Four problems, each run from the same starts by every method: a quadratic whose negative directions are axes, the same
quadratic rotated, a deep linear network and a small ReLU network from near zero. All methods and runs are one batch.

    nice -n 19 python experiments/saddle.py --out experiments/results/saddle/2026-11-23_amd-epyc-2-cores
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from resolute.run_folder import environment, write_json
from resolute.stats import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNS = 200
EPS = (0.1, 0.3, 0.5, 0.9)
NEGATIVE, POSITIVE = (-0.1, -0.02), (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0)
DEEP = {"width": 8, "samples": 32, "batch": 8, "rate": 0.05, "scale": 0.05}


class Arm(NamedTuple):
    """One method: its name, whether it meets batches, the kind of noise, and eps."""

    name: str
    stochastic: bool
    kind: str
    eps: float


ARMS = [
    Arm("gd", False, "none", 0.0),
    Arm("sgd", True, "none", 0.0),
    *(Arm("gd+g", False, "sign", eps) for eps in EPS),
    *(Arm("sgd+g", True, "sign", eps) for eps in EPS),
    *(Arm("sgd+gaussian", True, "gaussian", eps) for eps in EPS),
]


class Batch:
    """All arms and runs side by side: row i belongs to arm i // runs."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.eps = torch.tensor([arm.eps for arm in ARMS]).repeat_interleave(runs)
        self.sign = torch.tensor([arm.kind == "sign" for arm in ARMS]).repeat_interleave(runs)
        self.stochastic = torch.tensor([arm.stochastic for arm in ARMS]).repeat_interleave(runs)

    def factor(self, shape: tuple[int, ...], rows: Tensor) -> Tensor:
        """Draw 1 + eps * l: signs with p = 0.5, or normal numbers of the same power."""
        wide = (len(rows), *[1] * (len(shape) - 1))
        signs = torch.randint(0, 2, shape).float() * 2 - 1
        draw = torch.where(self.sign[rows].view(wide), signs, torch.randn(shape))
        return 1 + self.eps[rows].view(wide) * draw


def quadratic(rotated: bool, runs: int, cap: int = 3000) -> Tensor:
    """Descend x'Hx/2 through g(x); escaped is |x| >= 1 in the negative directions, from about 0.001."""
    batch, rate, size = Batch(runs), 0.2, len(NEGATIVE + POSITIVE)
    q = torch.linalg.qr(torch.randn(size, size)).Q if rotated else torch.eye(size)
    bend, away = q @ torch.diag(torch.tensor(NEGATIVE + POSITIVE)) @ q.T, q[:, : len(NEGATIVE)]
    begin = 1e-3 * torch.randn(runs, size)
    x = begin.repeat(len(ARMS), 1)

    def step(rows: Tensor) -> Tensor:
        d = batch.factor((len(rows), size), rows)
        slope = d * ((d * x[rows]) @ bend)
        slope = slope + 1e-3 * batch.stochastic[rows, None] * torch.randn(len(rows), size)
        x[rows] = x[rows] - rate * slope
        return (x[rows] @ away).norm(dim=1) >= 1

    return until(step, len(x), cap)


def network(rectified: bool, runs: int, cap: int = 2000) -> Tensor:
    """Train three layers on a teacher's answers; escaped is a loss below 3/4 of the plateau's, without noise."""
    batch, width, samples = Batch(runs), int(DEEP["width"]), int(DEEP["samples"])
    x = torch.randn(samples, width)
    if rectified:
        y = torch.relu(x @ torch.randn(width, width) / width**0.5) @ torch.randn(width, 1) / width**0.5
        y = y - y.mean()
    else:
        u, v = (torch.linalg.qr(torch.randn(width, width)).Q for _ in range(2))
        y = x @ (u[:, :2] * torch.tensor([2.0, 1.0])) @ v[:, :2].T
    sizes = [(width, width), (width, width), (width, y.shape[1])]
    scale = DEEP["scale"] * (2 if rectified else 1)
    weights = [(scale * torch.randn(runs, *size)).repeat(len(ARMS), 1, 1) for size in sizes]
    plateau = y.square().sum(1).mean()

    def forward(parts: list[Tensor], rows: Tensor, noisy: bool) -> Tensor:
        h = x.expand(len(rows), -1, -1)
        for layer, weight in enumerate(parts):
            if layer:
                h = torch.relu(h) if rectified else h
            if noisy:
                h = h * batch.factor(tuple(h.shape), rows)
            h = h @ weight
        return (h - y).square().sum(2)

    def step(rows: Tensor) -> Tensor:
        parts = [weight[rows].requires_grad_() for weight in weights]
        picked = torch.rand(len(rows), samples).argsort(1) < DEEP["batch"]
        share = torch.where(batch.stochastic[rows, None], picked / DEEP["batch"], 1 / samples)
        loss = (share * forward(parts, rows, noisy=True)).sum()
        for weight, part, slope in zip(weights, parts, torch.autograd.grad(loss, parts), strict=True):
            weight[rows] = part.detach() - DEEP["rate"] / 2 * slope
        with torch.no_grad():
            return forward([weight[rows] for weight in weights], rows, noisy=False).mean(1) < 0.75 * plateau

    return until(step, len(weights[0]), cap)


def until(step: Callable[[Tensor], Tensor], rows: int, cap: int) -> Tensor:
    """Count the steps of each row until it has escaped; infinite for what has not by the cap."""
    steps, alive = torch.full((rows,), math.inf), torch.arange(rows)
    for number in range(1, cap + 1):
        escaped = step(alive)
        steps[alive[escaped]] = number
        alive = alive[~escaped]
        if not len(alive):
            break
    return steps


def median(steps: NDArray[np.float64]) -> tuple[float, float, float]:
    """Give the median and its 95 % interval by order statistics, which need no distribution."""
    ordered, n = np.sort(steps), len(steps)
    low = int(binom.ppf(0.025, n, 0.5))
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return float(middle), float(ordered[low - 1]), float(ordered[n - low])


def ratio(steps: NDArray[np.float64], to: NDArray[np.float64]) -> tuple[float, float, float]:
    """Divide the medians; the 95 % interval is a bootstrap over runs, whose starts are paired."""
    picks = np.random.default_rng(0).integers(0, len(steps), (2000, len(steps)))
    many = np.median(steps[picks], axis=1) / np.median(to[picks], axis=1)
    low, high = map(float, np.quantile(many, (0.025, 0.975), method="inverted_cdf"))
    return float(np.median(steps) / np.median(to)), low, high


def told(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def rows_of(problem: str, steps: Tensor, runs: int) -> list[dict[str, Any]]:
    """Sum up each arm, and compare it with the one of the same gradients without noise."""
    by_arm = steps.view(len(ARMS), runs).double().numpy()
    plain = {arm.stochastic: by_arm[i] for i, arm in enumerate(ARMS) if arm.kind == "none"}
    rows = []
    for arm, own in zip(ARMS, by_arm, strict=True):
        row: dict[str, Any] = {"problem": problem, "method": arm.name, "eps": arm.eps, "runs": runs}
        row |= {"escaped": int(np.isfinite(own).sum()), "median": [told(v) for v in median(own)]}
        if arm.kind != "none":
            row["to_plain"] = [told(v) for v in ratio(own, plain[arm.stochastic])]
        rows.append(row | {"steps": [None if math.isinf(v) else int(v) for v in own]})
    return rows


def draw(rows: list[dict[str, Any]], path: Path, eps: float) -> None:
    """Draw the share of runs still at the saddle against steps, with Wilson's 95 % bands, a panel a problem."""
    colours = {"gd": "#7f7f7f", "sgd": "#000000", "gd+g": "#56b4e9", "sgd+g": "#d55e00", "sgd+gaussian": "#0072b2"}
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    figure, panels = plt.subplots(
        1, len(problems), figsize=(3.4 * len(problems), 3.1), sharey=True, layout="constrained"
    )
    for panel, problem in zip(panels, problems, strict=True):
        shown = [row for row in rows if row["problem"] == problem and row["eps"] in (0, eps)]
        ends = [step for row in shown for step in row["steps"] if step is not None]
        grid = np.unique(np.linspace(0, max(ends) * 1.02, 200).astype(int))
        for row in shown:
            left = [sum(step is None or step > at for step in row["steps"]) for at in grid]
            bands = [wilson(count, row["runs"]) for count in left]
            style = {"linestyle": "--"} if row["method"] in ("gd", "gd+g") else {}
            panel.step(grid, [b.mean for b in bands], color=colours[row["method"]], label=row["method"], **style)
            panel.fill_between(
                grid, [b.low for b in bands], [b.high for b in bands], color=colours[row["method"]], alpha=0.15, lw=0
            )
        panel.set(title=problem, xlabel="steps", xlim=(0, None), ylim=(0, 1.02))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("share still at the saddle")
    panels[-1].legend(frameon=False, title=f"noise: eps {eps}")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Run all problems and write results.json, environment.json and survival.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("saddle"))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problems: dict[str, Callable[[], Tensor]] = {
        "quadratic, axes": lambda: quadratic(False, options.runs),
        "quadratic, rotated": lambda: quadratic(True, options.runs),
        "deep linear network": lambda: network(False, options.runs),
        "ReLU network": lambda: network(True, options.runs),
    }
    rows, begin = [], time.perf_counter()
    for problem, run in problems.items():
        torch.manual_seed(options.seed)
        rows += rows_of(problem, run(), options.runs)
        for row in rows[-len(ARMS) :]:
            print(json.dumps({key: value for key, value in row.items() if key != "steps"}), flush=True)
        print(f"{problem}: {time.perf_counter() - begin:.0f} s")
    settings = {"quadratic": [NEGATIVE, POSITIVE], "network": DEEP, "seed": options.seed}
    write_json(options.out / "results.json", {"settings": settings, "rows": rows})
    write_json(options.out / "environment.json", environment())
    draw(rows, options.out / "survival.png", 0.5)


if __name__ == "__main__":
    main()
