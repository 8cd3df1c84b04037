"""The grid: finished cells stay, killed ones go on, and the end is the same bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from resolute import comparison, recipes
from resolute.data import Augment
from resolute.errors import InputError
from resolute.records import cell_name, read_bits, read_records
from resolute.training import TrainConfig

TINY = recipes.Recipe(
    name="tiny",
    data="digits",
    model="lenet",
    train=TrainConfig(epochs=3, batch_size=64),
    methods=("base", "r"),
    seeds=(0, 1),
    suites=("clean", "noise"),
)
SAME = ["weights.safetensors", "bits.npz", "records.jsonl", "model.json"]


def one_epoch(**changes: object) -> recipes.Recipe:
    train = replace(TINY.train, epochs=1)
    return replace(TINY, **{"train": train, "seeds": (0,), "suites": ("clean",), **changes})  # type: ignore[arg-type]


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


def test_a_finished_run_trains_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = one_epoch()
    comparison.compare(recipe, tmp_path / "run")
    before, page = outcome(tmp_path / "run"), (tmp_path / "run/report.html").read_bytes()
    monkeypatch.setattr(comparison.cell, "train", None)
    comparison.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before
    assert (tmp_path / "run/report.html").read_bytes() == page


def test_a_missing_cell_is_the_only_one_run_again(tmp_path: Path) -> None:
    recipe = one_epoch()
    comparison.compare(recipe, tmp_path / "run")
    before = outcome(tmp_path / "run")
    times = (tmp_path / "run/cells/base-seed0/train.csv").read_text()
    (tmp_path / "run/cells/r-seed0/records.jsonl").unlink()
    comparison.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before
    assert (tmp_path / "run/cells/base-seed0/train.csv").read_text() == times


def test_records_stand_in_the_order_of_the_grid_and_count_the_bits(tmp_path: Path) -> None:
    comparison.compare(replace(one_epoch(), seeds=(1, 0)), tmp_path / "run")
    rows = read_records(tmp_path / "run/records.jsonl")
    assert [(row.method, row.seed) for row in rows] == [("base", 1), ("r", 1), ("base", 0), ("r", 0)]
    for row in rows:
        bits = read_bits(tmp_path / "run/cells" / cell_name(row.method, row.seed) / "bits.npz")
        assert (row.correct, row.n) == (int(bits[row.key].sum()), 898)
        assert row.correct > 898 / 10


def test_the_stored_recipe_is_complete(tmp_path: Path) -> None:
    comparison.compare(one_epoch(), tmp_path / "run", command="resolute compare")
    stored = json.loads((tmp_path / "run/recipe.json").read_text())
    assert stored["settings"]["radius"] == 0.1
    assert stored["train"]["augment"] == asdict(Augment())
    assert (stored["command"], stored["data_info"]["classes"]) == ("resolute compare", 10)


def test_another_recipe_is_kept_out_of_a_run_directory(tmp_path: Path) -> None:
    comparison.compare(one_epoch(), tmp_path / "run")
    before = outcome(tmp_path / "run")
    with pytest.raises(InputError, match=r"another recipe: train differ .*--out"):
        comparison.compare(one_epoch(train=TrainConfig(epochs=1, lr=0.01)), tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_where_the_data_lies_does_not_make_another_run(tmp_path: Path) -> None:
    here, there = replace(TINY, data_dir="a"), replace(TINY, data_dir="b")
    assert comparison.default_folder(here) == comparison.default_folder(there)
    assert comparison.default_folder(here) != comparison.default_folder(replace(TINY, seeds=(0,)))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(InputError, match="not empty and holds no run"):
        comparison.compare(one_epoch(), tmp_path)
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
        comparison.compare(one_epoch(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_methods_of_a_seed_start_from_the_same_weights(tmp_path: Path) -> None:
    recipe = one_epoch(methods=("base", "r"), train=replace(TINY.train, epochs=1, lr=1e-30, weight_decay=0.0))
    comparison.compare(recipe, tmp_path / "run")
    base, r = ((tmp_path / f"run/cells/{m}-seed0/weights.safetensors").read_bytes() for m in ("base", "r"))
    assert base == r
