from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.experiment import grid

if TYPE_CHECKING:
    import pytest

    from cli.conftest import Call
    from resolute.experiment.recipe import Recipe


def test_the_flags_of_train_reach_its_recipe(resolute: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []

    def see(recipe: Recipe, _out: Path | None, *, command: str) -> tuple[Path, list[Any]]:
        assert command.startswith("resolute train")
        seen.append(recipe)
        return Path("out"), []

    monkeypatch.setattr(grid, "train_one", see)
    flags = "--method fgsm --seed 3 -b 32 --devices 2 --nodes 2 --sync-bn --suites clean,noise --device cpu"
    assert resolute("train", *flags.split()).code == 0
    [recipe] = seen
    assert (recipe.cells, recipe.baseline, recipe.suites) == ([("fgsm", 3)], "fgsm", ("clean", "noise"))
    assert (recipe.train.devices, recipe.train.nodes, recipe.train.sync_bn, recipe.train.batch_size) == (2, 2, True, 32)


def test_a_network_is_trained_with_progress_and_its_folder_is_named(resolute: Call, tmp_path: Path) -> None:
    out = tmp_path / "one"
    answer = resolute("train", "--epochs", 1, "--device", "cpu", "--out", out)
    assert answer.code == 0, answer.message
    told = rf"clean: \d+\.\d\d % wrong of 898\neps: 0\.\d+, found for the ratio\nnetwork: {re.escape(str(out))}\n"
    assert re.fullmatch(told, answer.out)
    assert "r seed 0 done, 0:00:" in answer.err


def test_the_strength_that_was_found_is_told(resolute: Call, tmp_path: Path) -> None:
    out = tmp_path / "one"
    answer = resolute("train", "--epochs", 1, "--device", "cpu", "--eps", "auto", "--ratio", 0.4, "--out", out)
    assert answer.code == 0, answer.message
    eps = json.loads((out / "model.json").read_text())["eps"]
    assert 0.05 < eps < 0.3
    assert f"\neps: {eps:g}, found for the ratio\n" in answer.out


def test_several_methods_are_for_compare(resolute: Call) -> None:
    answer = resolute("train", "--method", "base,r")
    assert answer.code == 2
    assert "--method got 'base,r'; it takes one method. Several are trained by `resolute compare`." in answer.message
