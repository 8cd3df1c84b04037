"""Table 5: CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolute.recipes.row import rows_of
from resolute.recipes.sources import SOURCES

if TYPE_CHECKING:
    from resolute.recipes.source import Source


def _with_dropout(source: Source) -> Source:
    kept = [said for said in source.deviations if not said.startswith("No dropout")]
    ticked = "Dropout of 30 % in the blocks, which the table ticks: Zagoruyko and Komodakis's rate for this network."
    return replace(source, recipe=replace(source.recipe, model="wrn-28-10-drop30"), deviations=(*kept, ticked))


TRAINED = (
    *rows_of(5, "wrn2810_c10", _with_dropout(SOURCES["wrn-28-10-erasing-cifar10"])),
    *rows_of(
        5,
        "inceptionv3_c100",
        SOURCES["inception-v3-cifar100"],
        "Images of 32 pixels and a stem of stride 1; the paper says nothing of either.",
    ),
    *rows_of(5, "wrn2810_c100", _with_dropout(SOURCES["wrn-28-10-erasing-cifar100"])),
)
"""Recipes by row."""
