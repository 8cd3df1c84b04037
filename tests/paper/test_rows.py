from __future__ import annotations

import json
from dataclasses import replace

import pytest

from resolute.data import DATASETS
from resolute.errors import InputError
from resolute.experiment.recipe import RECIPES, from_json, to_json
from resolute.models import MODELS
from resolute.paper.rows import QUOTED, TRAINED, WEIGHTS, RowRecipe, named_recipe
from resolute.paper.tables import ROWS

every = pytest.mark.parametrize("row", TRAINED.values(), ids=TRAINED)


def test_a_row_is_trained_or_quoted() -> None:
    assert set(TRAINED) | set(QUOTED) == set(ROWS)
    assert set(TRAINED).isdisjoint(QUOTED)
    assert all(ROWS[row].method == "base" for row in [*QUOTED, *WEIGHTS])
    assert all(MODELS[weights.model].library for weights in WEIGHTS.values())


@every
def test_a_recipe_is_complete_and_the_rows_own(row: RowRecipe) -> None:
    recipe, printed = row.recipe, ROWS[row.row]
    assert recipe.name == row.row
    assert recipe.data == printed.data in DATASETS
    assert recipe.methods == tuple(dict.fromkeys(("base", printed.method)))
    assert len(recipe.seeds) == 5
    assert recipe.settings.p == 0.5
    assert recipe.split == "test"
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe
    assert all(text.endswith(".") for text in row.deviations)
    assert len(set(row.deviations)) == len(row.deviations)


@every
def test_what_the_table_ticks_is_done_or_the_deviation_says_so(row: RowRecipe) -> None:
    ticks, augment = ROWS[row.row].printed_recipe, row.recipe.train.augment
    if not ticks:
        return
    said = " ".join(row.deviations).lower()
    assert augment is not None
    dropped = "-drop" in row.recipe.model or row.recipe.model in {"lenet", "inception-v3-cifar"}
    assert dropped == bool(ticks["dropout"]) or "dropout" in said
    assert (augment.shift > 0 or augment.flip) == ticks["standard_aug"] or "augmentation" in said
    assert (augment.erase > 0) == bool(ticks["random_erase"])


def test_rows_of_a_network_differ_in_their_methods_alone() -> None:
    for row in ROWS.values():
        if row.id in TRAINED:
            ours, base = TRAINED[row.id].recipe, TRAINED[row.base.id].recipe
            assert replace(ours, name=base.name, methods=base.methods) == base


def test_recipes_are_found_by_name_and_by_row() -> None:
    assert named_recipe("digits") == RECIPES["digits"]()
    assert named_recipe("4-r-lenet") == TRAINED["4-r-lenet"].recipe
    with pytest.raises(InputError, match="unknown recipe '4-r-lenett': did you mean '4-r-lenet'"):
        named_recipe("4-r-lenett")
