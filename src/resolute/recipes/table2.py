"""Table 2: large networks on ImageNet."""

from __future__ import annotations

from resolute.recipes.row import TOP_1_AND_5, Weights, rows_of
from resolute.recipes.sources import SOURCES

TRAINED = rows_of(2, "nasneta_large", SOURCES["nasnet-a-large-imagenet"], suites=TOP_1_AND_5)
"""Recipes by row."""
QUOTED = {"2-senet": "no FGSM- or R- row"}
"""Rows that are not trained, and why."""
WEIGHTS = {
    "2-senet": Weights(
        "senet-154",
        320,
        ("timm's conversion of the released SENet-154, 115.1M parameters where the row prints 145.8M.",),
    ),
    "2-nasnet-a": Weights(
        "nasnet-a-large",
        331,
        (
            "timm's conversion of the released weights.",
            "Tested at 331 of 378 pixels, bilinear; timm: 331 of 363, bicubic.",
        ),
    ),
}
"""Published weights by base row."""
