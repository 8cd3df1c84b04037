from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resolute.errors import InputError
from resolute.paper.ledger import read_pools, results_folder, training_of
from resolute.paper.rows import TRAINED

if TYPE_CHECKING:
    from collections.abc import Callable

CLEAN = ("clean", "clean", 0.0)


def test_seeds_of_one_training_are_pooled_over_folders(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-r-lenet", {"base": [50, 52], "r": [48, 49]})
    run(tmp_path / "b", "4-r-lenet", {"base": [51, 53, 55], "r": [47, 46, 45]}, first_seed=2)
    base, r = read_pools(tmp_path)
    assert (base.method, r.method) == ("base", "r")
    assert base.errors(CLEAN) == pytest.approx({0: 0.0050, 1: 0.0052, 2: 0.0051, 3: 0.0053, 4: 0.0055})
    assert r.errors(CLEAN) == pytest.approx({0: 0.0048, 1: 0.0049, 2: 0.0047, 3: 0.0046, 4: 0.0045})
    assert r.base == base
    assert base.base is None
    assert base.images(CLEAN) == 10_000
    assert base.errors(("fgsm", "fgsm", 0.1)) == {}


def test_a_seed_keeps_what_each_folder_measured_of_it(tmp_path: Path, run: Callable[..., None]) -> None:
    top5 = ("top5", "top5", 0.0)
    run(tmp_path / "a", "4-r-lenet", {"base": [50, 51], "r": [48, 49]})
    run(tmp_path / "b", "4-r-lenet", {"base": [5, 6], "r": [4, 5]}, key=top5)
    base, r = read_pools(tmp_path)
    assert base.errors(CLEAN) == pytest.approx({0: 0.0050, 1: 0.0051})
    assert base.errors(top5) == pytest.approx({0: 0.0005, 1: 0.0006})
    assert r.base is not None
    assert r.base.errors(top5) == base.errors(top5)


def test_a_method_is_paired_with_base_of_another_folder(tmp_path: Path, run: Callable[..., None]) -> None:
    """Where the noise goes is no part of how base was trained."""
    run(tmp_path / "hidden", "4-r-lenet", {"base": [50], "r": [48]}, settings={"where": "hidden"})
    run(tmp_path / "input", "4-r-lenet", {"r": [47]}, settings={"where": "input"})
    found = {(pool.method, pool.setting.get("where")): pool for pool in read_pools(tmp_path)}
    assert found.keys() == {("base", None), ("r", "hidden"), ("r", "input")}
    assert found["r", "input"].base == found["base", None]


def test_another_training_is_another_pool(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "long", "4-r-lenet", {"base": [50], "r": [48]})
    run(tmp_path / "short", "4-r-lenet", {"base": [60], "r": [58]}, train={"epochs": 3})
    pools = read_pools(tmp_path)
    assert len(pools) == 4
    assert all(pool.base is None or pool.base.training == pool.training for pool in pools)


def test_where_and_on_what_it_ran_makes_no_other_pool(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-lenet", {"base": [50]}, data_dir="here")
    run(tmp_path / "b", "4-lenet", {"base": [51]}, first_seed=1, data_dir="there", train={"tensorboard": True})
    [pool] = read_pools(tmp_path)
    assert sorted(pool.counts) == [0, 1]


def test_fields_that_an_older_version_had_not_are_at_their_defaults(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-lenet", {"base": [50]})
    path = tmp_path / "a/recipe.json"
    stored = json.loads(path.read_text())
    assert stored["train"].pop("optimizer") == "sgd"
    assert stored["train"]["augment"].pop("crop") == 1.0
    stored.pop("hold_out")
    path.write_text(json.dumps(stored | {"hold_out": False}))
    [pool] = read_pools(tmp_path)
    assert pool.training == training_of(TRAINED["4-lenet"].recipe)


def test_what_is_no_measurement_is_left_out(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "chosen", "4-s-resnet", {"base": [50]}, split="validation")
    run(tmp_path / "smoke", "4-lenet", {"base": [1]}, data="runs/smoke-digits-1x28x28")
    (tmp_path / "started").mkdir()
    (tmp_path / "started/recipe.json").write_text("{}")
    assert read_pools(tmp_path) == []


def test_the_committed_records_are_read() -> None:
    folder = Path(__file__).parents[2] / "experiments/results"
    pools = read_pools(folder)
    trained = {(pool.training["data"], pool.training["model"], pool.method) for pool in pools}
    assert {("mnist", "lenet", method) for method in ("base", "fgsm", "r")} <= trained
    assert all(pool.base is not None for pool in pools if pool.method == "r")


def test_the_folder_is_the_one_named_or_the_one_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments/results").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert results_folder() == Path("experiments/results")
    assert results_folder(Path("elsewhere")) == Path("elsewhere")


def test_elsewhere_the_runs_that_came_with_the_package_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert any(pool.method == "r" for pool in read_pools(results_folder()))


def test_a_folder_that_is_not_there_or_holds_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere.*--results"):
        read_pools(tmp_path / "nowhere")
    (tmp_path / "recipe.json").write_text('{"cake": 1}')
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(InputError, match=r"recipe.json is not a recipe of `resolute compare`"):
        read_pools(tmp_path)
