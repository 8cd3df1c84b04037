from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolute import comparison

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from cli.conftest import Call
    from resolute.recipes import Recipe


def test_the_flags_of_train_reach_its_recipe(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []

    def see(recipe: Recipe, _out: Path, *, command: str) -> list[Any]:
        assert command.startswith("resolute train")
        seen.append(recipe)
        return []

    monkeypatch.setattr(comparison, "train_one", see)
    flags = "--method fgsm --seed 3 -b 32 --devices 2 --nodes 2 --sync-bn --suites clean,noise --device cpu"
    assert resolute("train", *flags.split()).code == 0
    [recipe] = seen
    assert (recipe.cells, recipe.baseline, recipe.suites) == ([("fgsm", 3)], "fgsm", ("clean", "noise"))
    assert (recipe.train.devices, recipe.train.nodes, recipe.train.sync_bn, recipe.train.batch_size) == (2, 2, True, 32)
