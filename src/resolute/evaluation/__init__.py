"""How often a network is right, on clean images and on shifted ones."""

from __future__ import annotations

from resolute.evaluation import sanity
from resolute.evaluation.measure import (
    Floats,
    check_network,
    collect,
    evaluate,
    measure,
    measure_shift,
    predict,
    records,
    shown_to,
    stored,
)

__all__ = [
    "Floats", "check_network", "collect", "evaluate", "measure", "measure_shift", "predict", "records",
    "sanity", "shown_to", "stored",
]  # fmt: skip
