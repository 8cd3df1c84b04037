"""Every row of the paper's tables: how it is run here, by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.recipes import table1, table2, table3, table4, table5

if TYPE_CHECKING:
    from resolute.recipes.row import RowRecipe, Weights

TRAINED: dict[str, RowRecipe] = {
    row.row: row for table in (table1, table2, table3, table4, table5) for row in table.TRAINED
}
"""Recipes of the rows that can be trained."""
QUOTED: dict[str, str] = {**table2.QUOTED, **table3.QUOTED}
"""Why the other rows are not trained."""
WEIGHTS: dict[str, Weights] = {**table2.WEIGHTS, **table3.WEIGHTS}
"""Published weights of base rows, trained ones and quoted ones."""
