"""What the ledger says in words: what a row needs to be measured, and what a measurement says of a claim."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resolute import methods
from resolute.models.facts import SIZES
from resolute.paper import DATA_NAMES
from resolute.recipes import TRAINED
from resolute.report.formats import count

if TYPE_CHECKING:
    from resolute.paper import Row
    from resolute.stats import Interval, Verdict

TRAINING_IMAGES = {
    "mnist": 60_000, "svhn": 604_388, "cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167,
}  # fmt: skip
SUSTAINED = 50e12
"""Floating-point operations a second that a GPU is taken to sustain in training, generously."""
ROUNDING = 0.01
"""In points: a claimed difference is that of two numbers of two decimals, each half a hundredth off at most."""
OPERATIONS = 2 * 3
"""For each multiply-add of a forward pass: two operations, and twice as many again in backward."""


def needs(row: Row) -> str:
    """Say what it takes to measure a row at its full recipe.

    Args:
        row: A row that can be trained.

    Returns:
        Data and computing time for all seeds, from the network's multiply-adds alone.
    """
    recipe = TRAINED[row.id].recipe
    size = SIZES[recipe.model.partition("-drop")[0]]
    passes = sum(methods.find(method).passes for method in recipe.methods)
    operations = OPERATIONS * size.multiply_adds * TRAINING_IMAGES[row.data] * recipe.train.epochs * passes
    hours = operations * len(recipe.seeds) / SUSTAINED / 3600
    rounded = round(hours, -2) if hours > 950 else round(hours)
    return f"needs {DATA_NAMES[row.data]}, {count(int(rounded), 'GPU hour') if rounded else 'minutes of a GPU'}"


def judge(claim: float, found: Verdict, claimed: float, measured: Interval) -> str:
    """Say what a measured difference to base says of the claimed one.

    Args:
        claim: The claimed difference as an error: below zero is better than base.
        found: What the test says of the measured one.
        claimed: The claimed difference in points of the printed measure.
        measured: The measured one in the same points, with its interval.

    Returns:
        A few words: what was seen, then whether the claimed difference lies in the interval.
    """
    wanted = "better" if claim < 0 else "worse" if claim > 0 else "the same"
    if math.isnan(measured.low):
        return "one seed says nothing"
    within = measured.low - ROUNDING <= claimed <= measured.high + ROUNDING
    if found == "no difference seen" and math.isclose(
        measured.low, measured.high, abs_tol=1e-9
    ):  # equal differences bound nothing
        return found
    if found == "no difference seen":
        return f"{found}, the claimed one {'possible' if within else 'excluded'}"
    if found == wanted:
        return f"{found}, as claimed" if within else f"{found}, by {_beside(claimed, measured)}"
    return f"{found}, where {wanted} is claimed"


def _beside(claimed: float, measured: Interval) -> str:
    return "more than claimed" if abs(measured.mean) > abs(claimed) else "less than claimed"
