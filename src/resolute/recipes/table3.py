"""Table 3: compact networks on ImageNet."""

from __future__ import annotations

from resolute.recipes.row import TOP_1_AND_5, Weights, rows_of
from resolute.recipes.sources import SOURCES

TRAINED = (
    *rows_of(3, "condensenet8", SOURCES["condensenet-g8-imagenet"], suites=TOP_1_AND_5),
    *rows_of(3, "condensenet4", SOURCES["condensenet-g4-imagenet"], suites=TOP_1_AND_5),
)
"""Recipes by row."""
QUOTED = {
    "3-inception-v1": "no FGSM- or R- row",
    "3-mobilenet": "no FGSM- or R- row",
    "3-shufflenet": "no FGSM- or R- row; no library has weights",
    "3-nasnet-b": "its cell is in a figure of its paper alone",
    "3-nasnet-c": "its cell is in a figure of its paper alone",
}
"""Rows that are not trained, and why."""
WEIGHTS = {
    "3-inception-v1": Weights("inception-v1", 224, ("torchvision's, with BN, and 3x3 where the source has 5x5.",)),
    "3-mobilenet": Weights("mobilenet-v1", 224, ("timm's, from a longer training of its own.",)),
}
"""Published weights by base row."""
