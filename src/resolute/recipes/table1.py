"""Table 1: CondenseNet on ImageNet, judged under the paper's five disturbances."""

from __future__ import annotations

from resolute.recipes.row import TOP_1_AND_5, rows_of
from resolute.recipes.sources import SOURCES

_DISTURBED = (
    "The paper prints no parameter of any disturbance; each is taken at its customary severity (docs/disturbances.md).",
)
_SUITES = (*TOP_1_AND_5, "disturbances")
"""Table 3 prints top-1 and top-5 of the same networks: one training serves both tables."""

TRAINED = (
    *rows_of(1, "condensenet8", SOURCES["condensenet-g8-imagenet"], *_DISTURBED, suites=_SUITES),
    *rows_of(1, "condensenet4", SOURCES["condensenet-g4-imagenet"], *_DISTURBED, suites=_SUITES),
)
"""Recipes by row."""
