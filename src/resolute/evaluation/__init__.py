"""How often a network is right, on clean images and on shifted ones."""

from __future__ import annotations

from resolute.evaluation import sanity
from resolute.evaluation.measure import (
    Floats,
    PartFile,
    Store,
    check_network,
    collect,
    measure,
    measure_shifts,
    not_finite,
    predict,
    records,
    sample,
    shown_to,
    stored_images,
)

__all__ = [
    "Floats", "PartFile", "Store", "check_network", "collect", "measure", "measure_shifts", "not_finite", "predict",
    "records", "sample", "sanity", "shown_to", "stored_images",
]  # fmt: skip
