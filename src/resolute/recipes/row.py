"""How a row of the paper's tables is run here: trained by a recipe, judged with published weights, or quoted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resolute import paper

if TYPE_CHECKING:
    from resolute.paper import Row
    from resolute.recipes.recipe import Recipe
    from resolute.recipes.source import Source

OPEN = {
    "base": "5 seeds; the paper does not say how many runs a figure stands for.",
    "r": "Signs at p = 0.5, as printed; the paper prints neither eps nor the places of the noise; each recipe does.",
    "fgsm": "FGSM rows: half of each batch clean, half attacked (Goodfellow et al. 2014), at the data set's customary "
    "radius; the paper prints neither mix nor radius.",
}
"""What the paper leaves open for every row of a method, and what is done."""


TOP_1_AND_5 = ("clean", "top5")
"""Suites of the tables that print top-1 and top-5."""


@dataclass(frozen=True, slots=True)
class RowRecipe:
    """The recipe of one row.

    Attributes:
        row: Id in `paper.ROWS`.
        recipe: Complete; it trains the row's method and, for the difference that the row claims, base with the same
            seeds.
        source: Where the network's training was taken from, with its loss.
        deviations: What the source or the paper has and the recipe has not, and what they leave open.
    """

    row: str
    recipe: Recipe
    source: Source
    deviations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """Published weights that a base row can be judged with.

    Attributes:
        model: Name as in ``models.build``.
        size: Side of the images.
        deviations: In what the weights and the test differ from the row's source.
    """

    model: str
    size: int
    deviations: tuple[str, ...]


def rows_of(
    table: int, network: str, source: Source, *deviations: str, suites: tuple[str, ...] = ("clean",)
) -> tuple[RowRecipe, ...]:
    """Make the recipes of a network's rows in a table: base, FGSM and R.

    Args:
        table: 1 to 5.
        network: Key in `paper.SOURCES`.
        source: How the network is trained.
        deviations: What differs from the paper, beside what the source's recipe says.
        suites: What the rows are judged by.

    Returns:
        One recipe for each row, in the order of print.
    """
    rows = [row for row in paper.ROWS.values() if (row.table, row.source.name) == (table, network)]
    return tuple(_of_row(row, source, deviations, suites) for row in rows)


def _of_row(row: Row, source: Source, deviations: tuple[str, ...], suites: tuple[str, ...]) -> RowRecipe:
    methods = tuple(dict.fromkeys(("base", row.method)))
    recipe = replace(source.recipe, name=row.id, methods=methods, suites=suites)
    left_open = [OPEN[method] for method in methods]
    return RowRecipe(row.id, recipe, source, (*source.deviations, *deviations, *left_open))
