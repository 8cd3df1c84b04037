"""The model of `resolute.stats.compare_paired` the slow way: a two-way analysis of variance by loops over its cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize
from scipy import stats as reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

BOTH = "seeds and images"


def parts(a: NDArray[Any], b: NDArray[Any]) -> dict[str, float]:
    """The mean and its variances, of wrong answers [seeds, shifts, n] or [seeds, n]."""
    d = (np.asarray(a, float) - np.asarray(b, float)).reshape(len(a), -1, np.shape(a)[-1])
    k, shifts, n = d.shape
    cell = [[sum(d[s, j, i] for j in range(shifts)) / shifts for i in range(n)] for s in range(k)]
    mean = sum(map(sum, cell)) / (k * n)
    rows = [sum(row) / n for row in cell]
    columns = [sum(cell[s][i] for s in range(k)) / k for i in range(n)]
    between = n * sum((row - mean) ** 2 for row in rows) / (k - 1) if k > 1 else math.nan
    rest = sum((cell[s][i] - rows[s] - columns[i] + mean) ** 2 for s in range(k) for i in range(n))
    rest /= max(1, (k - 1) * (n - 1))
    squares = sum(value**2 for row in cell for value in row) / k
    agree = sum(value**2 for value in columns)
    share = agree / squares if squares else 1.0
    added = max((1 + share) / 2, 2 * share**2)  # images that only one gets wrong, half of them each way
    centre = sum(columns) / (n + 2)
    networks = ((agree + added) / (n + 2) - centre**2) / (n + 2)
    return {
        "mean": mean, "centre": centre, "k": k, "n": n, "networks": networks,
        "seeds": max(between / (k * n), 1 / (12 * k * (n * shifts) ** 2)),
        "images": max(0.0, networks - rest / (k * n)) if k > 1 else math.nan,
        "between": between, "rest": rest,
    }  # fmt: skip


def half(own: dict[str, float], level: float, over: str) -> float:
    of_seeds = reference.t.ppf((1 + level) / 2, own["k"] - 1) ** 2 * own["seeds"] if over != "images" else 0.0
    of_images = {"seeds": 0.0, "images": own["networks"]}.get(over, own["images"])
    return math.sqrt(of_seeds + reference.t.ppf((1 + level) / 2, own["n"] + 1) ** 2 * of_images)


def interval(
    a: NDArray[Any], b: NDArray[Any], level: float = 0.95, over: str = "seeds and images"
) -> tuple[float, float]:
    own = parts(a, b)
    centre = own["mean"] if over == "seeds" else own["centre"]
    low, high = centre - half(own, level, over), centre + half(own, level, over)
    return max(-1.0, min(own["mean"], low)), min(1.0, max(own["mean"], high))


def p_value(a: NDArray[Any], b: NDArray[Any], over: str = BOTH) -> float:
    own = parts(a, b)
    centre = abs(own["mean"] if over == "seeds" else own["centre"])
    if half(own, 1e-12, over) >= centre:
        return 1.0
    found = optimize.brentq(lambda x: half(own, 1 - math.exp(x), over) - centre, math.log(1e-13), math.log(1 - 1e-12))
    return math.exp(found)
