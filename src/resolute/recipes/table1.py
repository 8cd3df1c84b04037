"""Table 1: CondenseNet on ImageNet, judged under the paper's five disturbances."""

from __future__ import annotations

from resolute.recipes.row import rows_of
from resolute.recipes.sources import SOURCES

_DISTURBED = (
    "The paper prints no parameter of any disturbance; each is taken at its customary severity (docs/disturbances.md).",
)
_SUITES = ("clean", "disturbances")

TRAINED = (
    *rows_of(1, "condensenet8", SOURCES["condensenet-g8-imagenet"], *_DISTURBED, suites=_SUITES),
    *rows_of(1, "condensenet4", SOURCES["condensenet-g4-imagenet"], *_DISTURBED, suites=_SUITES),
)
"""Recipes by row."""
