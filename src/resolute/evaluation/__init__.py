"""How often a network is right, on clean images and on shifted ones."""

from __future__ import annotations

from resolute.evaluation import checks
from resolute.evaluation.intake import Floats, check_network, collect, predict
from resolute.evaluation.measuring import evaluate, measure, measure_shift, records, shown_to, stored

__all__ = [
    "Floats", "check_network", "checks", "collect", "evaluate", "measure", "measure_shift", "predict", "records",
    "shown_to", "stored",
]  # fmt: skip
