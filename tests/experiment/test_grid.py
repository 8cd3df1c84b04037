"""The grid: finished cells stay, killed ones go on, and the end is the same bit for bit."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from cases import TINY
from resolute import methods
from resolute.data import load
from resolute.data.augment import Augment
from resolute.errors import InputError
from resolute.experiment import cell as one_cell
from resolute.experiment import grid
from resolute.run_folder import cell_name, read_bits, read_records
from resolute.training import loop
from resolute.training.config import TrainConfig

if TYPE_CHECKING:
    from resolute.experiment.recipe import Recipe

SAME = ["weights.safetensors", "bits.npz", "records.jsonl", "model.json"]


def one_seed(**changes: object) -> Recipe:
    return replace(TINY, **{"seeds": (0,), **changes})  # type: ignore[arg-type]


def outcome(out: Path) -> dict[str, bytes]:
    files = [out / "records.jsonl", *(cell / name for cell in out.glob("cells/*") for name in SAME)]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed.py")
    ran = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    kills = json.loads(ran.stdout.splitlines()[-1])
    assert kills["writes"] >= 10
    assert kills["moments"] == 6
    ends = {folder.name: outcome(folder) for folder in tmp_path.iterdir()}
    assert len(ends) >= 3
    assert all(end == ends["undisturbed"] for end in ends.values())
    assert list(tmp_path.glob("*/cells/*/checkpoint.pt")) == []


def test_a_method_that_diverges_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = "lost"
    spoilt = replace(methods.METHODS["base"], name=lost, perturb_batch=lambda model, x, y, settings: (x * math.nan, y))
    monkeypatch.setitem(methods.METHODS, lost, spoilt)
    recipe = replace(TINY, methods=("base", lost, "r"))
    summary = grid.compare(recipe, tmp_path / "run")
    assert summary.missing == ((lost, 0), (lost, 1))
    assert f"Training diverged in 2 of 6 cells ({lost} seed 0 and {lost} seed 1)" in summary.limits[0]
    assert "not finished" not in summary.limits[0]
    cell = tmp_path / "run/cells" / cell_name(lost, 0)
    assert "the loss became nan in epoch 1 (lost" in (cell / "diverged.json").read_text()
    grid.compare(replace(recipe, methods=("base", "r")), tmp_path / "without")
    assert read_records(tmp_path / "run/records.jsonl") == read_records(tmp_path / "without/records.jsonl")
    monkeypatch.setattr(one_cell, "train", pytest.fail)
    assert grid.compare(recipe, tmp_path / "run") == summary


def test_a_finished_run_trains_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = one_seed()
    grid.compare(recipe, tmp_path / "run")
    before, page = outcome(tmp_path / "run"), (tmp_path / "run/report.html").read_bytes()
    monkeypatch.setattr(one_cell, "train", None)
    grid.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before
    assert (tmp_path / "run/report.html").read_bytes() == page


def test_a_missing_cell_is_the_only_one_run_again(tmp_path: Path) -> None:
    recipe = one_seed()
    grid.compare(recipe, tmp_path / "run")
    before = outcome(tmp_path / "run")
    times = (tmp_path / "run/cells/base-seed0/train.csv").read_text()
    (tmp_path / "run/cells/r-seed0/records.jsonl").unlink()
    grid.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before
    assert (tmp_path / "run/cells/base-seed0/train.csv").read_text() == times


def test_records_stand_in_the_order_of_the_grid_and_count_the_bits(tmp_path: Path) -> None:
    grid.compare(replace(TINY, seeds=(1, 0)), tmp_path / "run")
    rows = read_records(tmp_path / "run/records.jsonl")
    assert [(row.method, row.seed) for row in rows] == [("base", 1), ("r", 1), ("base", 0), ("r", 0)]
    for row in rows:
        bits = read_bits(tmp_path / "run/cells" / cell_name(row.method, row.seed) / "bits.npz")
        assert (row.correct, row.n) == (int(bits[row.key].sum()), 898)
        assert row.correct > 898 / 10


def test_the_stored_recipe_is_complete(tmp_path: Path) -> None:
    grid.compare(one_seed(), tmp_path / "run", command="resolute compare")
    stored = json.loads((tmp_path / "run/recipe.json").read_text())
    assert stored["settings"]["radius"] == 0.1
    assert stored["train"]["augment"] == asdict(Augment())
    assert (stored["command"], stored["data_info"]["classes"]) == ("resolute compare", 10)


def test_another_recipe_is_kept_out_of_a_run_directory(tmp_path: Path) -> None:
    grid.compare(one_seed(), tmp_path / "run")
    before = outcome(tmp_path / "run")
    with pytest.raises(InputError, match=r"another recipe: train\.\w+ is .*--out"):
        grid.compare(one_seed(train=TrainConfig(epochs=1, lr=0.01)), tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_methods_and_seeds_are_added_to_a_run(tmp_path: Path) -> None:
    whole = replace(TINY, methods=("base", "gaussian", "r"), seeds=(0, 1))
    grid.compare(whole, tmp_path / "at once")
    grid.compare(replace(TINY, methods=("r", "base"), seeds=(1,)), tmp_path / "grown")
    trained = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("grown/cells/*-seed1/records.jsonl"))]
    grid.compare(whole, tmp_path / "grown", command="resolute compare --seeds 2")
    assert outcome(tmp_path / "grown") == outcome(tmp_path / "at once")
    assert [
        (tmp_path / f"grown/cells/{name}-seed1/records.jsonl").stat().st_mtime_ns for name in ("base", "r")
    ] == trained
    stored = json.loads((tmp_path / "grown/recipe.json").read_text())
    assert (stored["methods"], stored["seeds"]) == (["base", "gaussian", "r"], [0, 1])
    assert stored["command"] == "resolute compare --seeds 2"


def test_nothing_is_taken_from_a_run(tmp_path: Path) -> None:
    grid.compare(one_seed(), tmp_path / "run")
    before = outcome(tmp_path / "run")
    for changes, named in (({"seeds": (1, 2)}, "seeds"), ({"methods": ("base",), "seeds": (0, 1)}, "methods")):
        with pytest.raises(InputError, match=f"another recipe: {named}.* is .* there and .* here.*can be added"):
            grid.compare(one_seed(**changes), tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_where_the_data_lies_does_not_make_another_run(tmp_path: Path) -> None:
    here, there = replace(TINY, data_dir="a"), replace(TINY, data_dir="b")
    assert grid.default_folder(here) == grid.default_folder(there)
    assert grid.default_folder(here) != grid.default_folder(replace(TINY, seeds=(0,)))


def test_a_folder_is_the_same_however_its_path_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    folders = {
        grid.default_folder(replace(TINY, data=data))
        for data in ("own", "own/", "./own", str(tmp_path / "own"), "../own/../" + tmp_path.name + "/own")
    }
    assert len(folders) == 1
    assert folders != {grid.default_folder(replace(TINY, data="other"))}


def test_networks_of_other_classes_are_left_alone(tmp_path: Path) -> None:
    for i in range(24):
        file = Path(f"photos/class{i % 2}/{i:02}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    recipe = one_seed(data="photos", train=replace(TINY.train, batch_size=4))
    grid.compare(recipe, tmp_path / "run")
    before = outcome(tmp_path / "run")
    Path("photos/class1").rename("photos/dog")
    with pytest.raises(InputError, match=r"holds networks of other data: class_names is .*'class1'.*'dog'.*--out"):
        grid.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(InputError, match="not empty and holds no run"):
        grid.compare(one_seed(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "lenett"}, "did you mean 'lenet'"),
        ({"suites": ("clean", "nosie")}, "did you mean 'noise'"),
        ({"data": "digitz"}, "did you mean 'digits'"),
    ],
)
def test_a_wrong_name_leaves_no_run_directory(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid.compare(one_seed(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_methods_of_a_seed_start_from_the_same_weights(tmp_path: Path) -> None:
    recipe = one_seed(train=replace(TINY.train, lr=1e-30, weight_decay=0.0))
    grid.compare(recipe, tmp_path / "run")
    base, r = ((tmp_path / f"run/cells/{m}-seed0/weights.safetensors").read_bytes() for m in ("base", "r"))
    assert base == r


def test_a_training_that_another_process_is_at_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out / ".locks").mkdir(parents=True)
    with (
        FileLock(out / ".locks/train"),
        pytest.raises(InputError, match=r"another process trains in .*run\. Let it finish, or choose another --out"),
    ):
        one_cell.run_alone(one_seed(methods=("base",)), one_cell.load_splits(TINY), out)


def test_a_cell_that_another_process_is_at_is_waited_for(tmp_path: Path) -> None:
    recipe, out = one_seed(), tmp_path / "run"
    (out / ".locks").mkdir(parents=True)
    with ThreadPoolExecutor() as pool, FileLock(out / ".locks/base-seed0"):
        running = pool.submit(grid.compare, recipe, out)
        while not (out / "cells/r-seed0/records.jsonl").exists():
            assert not running.done()
            time.sleep(0.05)
        with pytest.raises(TimeoutError):
            running.result(timeout=0.7)
        assert not (out / "cells/base-seed0").exists()
        shutil.copytree(out / "cells/r-seed0", out / "cells/base-seed0")
    assert running.result().methods == ("base", "r")
    copied = (out / "cells/base-seed0/train.csv").read_text()
    assert copied == (out / "cells/r-seed0/train.csv").read_text(), "finished meanwhile, and not trained again"


def test_a_part_of_the_images_is_the_same_for_all_methods_of_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, int], Any] = {}
    train = loop.train

    def spy(model: Any, data: Any, **given: Any) -> Any:
        seen[given["method"], given["seed"]] = data
        return train(model, data, **given)

    monkeypatch.setattr(one_cell, "train", spy)
    grid.compare(replace(TINY, train_fraction=0.1), tmp_path / "run")
    x = {cell: data.x for cell, data in seen.items()}
    assert torch.equal(x["base", 0], x["r", 0])
    assert not torch.equal(x["base", 0], x["base", 1])
    counts = load("digits").y.bincount()
    assert seen["r", 1].y.bincount().tolist() == [round(0.1 * int(count)) for count in counts]


def test_variants_stand_under_their_own_names(tmp_path: Path) -> None:
    name = "r@eps=0.5@where=both"
    grid.compare(one_seed(methods=("base", "r", name)), tmp_path / "run")
    own, plain = (tmp_path / f"run/cells/{m}-seed0/weights.safetensors" for m in (name, "r"))
    assert own.read_bytes() != plain.read_bytes()
    assert {row.method for row in read_records(tmp_path / "run/records.jsonl")} == {"base", "r", name}
    sites = [json.loads((tmp_path / f"run/cells/{m}-seed0/cost.json").read_text())["sites"] for m in (name, "r")]
    assert sites == [2, 1]


def test_a_run_from_before_a_setting_was_there_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid.compare(one_seed(), tmp_path / "run")
    stored = json.loads((tmp_path / "run/recipe.json").read_text())
    del stored["train_fraction"], stored["train"]["update_bn"]
    (tmp_path / "run/recipe.json").write_text(json.dumps(stored))
    monkeypatch.setattr(one_cell, "train", None)
    grid.compare(one_seed(), tmp_path / "run")
    with pytest.raises(InputError, match=r"another recipe: train_fraction is .* there and .* here"):
        grid.compare(one_seed(train_fraction=0.5), tmp_path / "run")
