"""The grid: finished cells stay, killed ones go on, and the end is the same bit for bit, also on a bad disk."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import threading
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
from pictures import CHANGES, flipped, make_pictures
from resolute import methods
from resolute.config import Augment, Settings, TrainConfig
from resolute.data import load
from resolute.errors import InputError
from resolute.evaluation.networks import from_checkpoint
from resolute.experiment import cell as one_cell
from resolute.experiment import grid
from resolute.experiment.cell import FILES
from resolute.models.checkpoint import load_network
from resolute.report.run import load_run
from resolute.run_folder import GROWS, RunFolder, cell_name, read_bits, read_records, read_sealed, write_sealed
from resolute.training import loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolute.experiment.recipe import Recipe

SAME = ["weights.safetensors", "bits.npz", "records.jsonl", "model.json"]


def one_seed(**changes: object) -> Recipe:
    return replace(TINY, **{"seeds": (0,), **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare base and R with one seed; to be copied, not changed."""
    out = tmp_path_factory.mktemp("tiny") / "run"
    grid.compare(one_seed(), out)
    return out


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
    again = grid.compare(recipe, tmp_path / "run")
    assert (again.sentence, again.limits, repr(again.table)) == (summary.sentence, summary.limits, repr(summary.table))


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
    shutil.rmtree(tmp_path / "run/cells/r-seed0")
    grid.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before
    assert (tmp_path / "run/cells/base-seed0/train.csv").read_text() == times


@pytest.mark.parametrize("name", FILES)
def test_a_cell_that_lacks_a_file_is_refused_and_its_folder_named(name: str, tmp_path: Path, tiny_run: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "cells/r-seed0" / name).unlink()
    told = rf"r-seed0/{name} is missing. Delete the folder .*/cells/r-seed0 and give the same command again"
    with pytest.raises(InputError, match=told):
        grid.compare(one_seed(), run)


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
    with pytest.raises(
        InputError, match=r"holds another comparison: train.lr is 0.05 there and 0.01 here.*Choose .* --out"
    ):
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
        with pytest.raises(InputError, match=f"another comparison: {named}.* is .* there and .* here.*can be added"):
            grid.compare(one_seed(**changes), tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_where_the_data_lies_does_not_make_another_run() -> None:
    here, there, splits = replace(TINY, data_dir="a"), replace(TINY, data_dir="b"), one_cell.load_splits(TINY)
    assert grid.comparison_folder(here, splits) == grid.comparison_folder(there, splits)
    assert grid.comparison_folder(here, splits) != grid.comparison_folder(replace(TINY, seeds=(0,)), splits)


def test_a_folder_is_the_same_however_its_path_is_written(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    splits = one_cell.load_splits(TINY)
    folders = {
        grid.comparison_folder(replace(TINY, data=data), splits)
        for data in ("own", "own/", "./own", str(tmp_path / "own"), "../own/../" + tmp_path.name + "/own")
    }
    assert len(folders) == 1
    assert folders != {grid.comparison_folder(replace(TINY, data="other"), splits)}


def test_networks_of_other_classes_are_left_alone(tmp_path: Path) -> None:
    for i in range(24):
        file = Path(f"photos/class{i % 2}/{i:02}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    recipe = one_seed(data="photos", train=replace(TINY.train, batch_size=4))
    grid.compare(recipe, tmp_path / "run")
    before = outcome(tmp_path / "run")
    Path("photos/class1").rename("photos/dog")
    with pytest.raises(InputError, match=r"another comparison: data_info.class_names is .*'class1'.*'dog'.*--out"):
        grid.compare(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run") == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(InputError, match=r"not empty and holds no comparison\. Choose another folder with --out"):
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


def test_a_cell_that_another_process_is_at_is_waited_for(tmp_path: Path, tiny_run: Path) -> None:
    recipe, out = one_seed(), tmp_path / "run"
    (out / ".locks").mkdir(parents=True)
    with ThreadPoolExecutor() as pool, FileLock(out / ".locks/base-seed0"):
        running = pool.submit(grid.compare, recipe, out)
        while not (out / "cells/r-seed0/checksums.json").exists():
            assert not running.done()
            time.sleep(0.05)
        with pytest.raises(TimeoutError):
            running.result(timeout=0.7)
        assert not (out / "cells/base-seed0").exists()
        shutil.copytree(tiny_run / "cells/base-seed0", out / "cells/base-seed0")
    assert running.result().run.methods == ("base", "r")
    copied = (out / "cells/base-seed0/train.csv").read_text()
    assert copied == (tiny_run / "cells/base-seed0/train.csv").read_text(), "finished meanwhile, and not trained again"


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
    assert sites == [4, 3]


def test_a_folder_of_an_earlier_version_is_refused_and_left_alone(tmp_path: Path, tiny_run: Path) -> None:
    """It does not say which images it is of."""
    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns(".locks"))
    stored = json.loads((run / "recipe.json").read_text())
    del stored["identity"], stored["file_sha256"]
    (run / "recipe.json").write_text(json.dumps(stored))
    before = sorted(run.rglob("*"))
    told = r"recipe.json carries no checksum: an earlier version wrote it.*Run again into an empty folder \(--out\)"
    with pytest.raises(InputError, match=told):
        grid.compare(one_seed(), run)
    assert sorted(run.rglob("*")) == before


# What a folder holds is of one work


@pytest.mark.parametrize(
    ("other", "source", "place", "differs"),
    [
        ({"train": replace(TINY.train, epochs=2)}, "r-seed0", "r-seed0", "train.epochs is 2 there and 1 here"),
        ({"settings": Settings(ratio=0.9)}, "r-seed0", "r-seed0", "settings.ratio is 0.9 there and 0.5 here"),
        ({}, "r-seed0", "base-seed0", "method is 'r' there and 'base' here"),
        ({}, "base-seed0", "base-seed1", "seed is 0 there and 1 here"),
    ],
)
def test_a_cell_of_other_work_is_refused(
    tmp_path: Path, tiny_run: Path, other: dict[str, Any], source: str, place: str, differs: str
) -> None:
    recipe = replace(TINY, seeds=(0, 1))
    run = shutil.copytree(tiny_run, tmp_path / "run")
    theirs = tiny_run
    if other:
        theirs = tmp_path / "theirs"
        grid.compare(one_seed(**other), theirs)
    shutil.rmtree(run / "cells" / place, ignore_errors=True)
    shutil.copytree(theirs / "cells" / source, run / "cells" / place)
    told = f"cells/{place} belongs to other work: {differs}. Delete it, or choose another folder with --out"
    with pytest.raises(InputError, match=told):
        grid.compare(recipe, run)
    if place.endswith("seed0"):
        with pytest.raises(InputError, match=f"cells/{place} belongs to other work: {differs}"):
            load_run(run)


def test_a_training_that_diverged_in_other_work_is_refused(tmp_path: Path, tiny_run: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    own = read_sealed(run / "cells/r-seed0/checksums.json")["identity"]
    shutil.rmtree(run / "cells/r-seed0")
    write_sealed(run / "cells/r-seed0/diverged.json", {"message": "nan", "identity": own | {"seed": 4}})
    with pytest.raises(InputError, match=r"cells/r-seed0 belongs to other work: seed is 4 there and 0 here"):
        grid.compare(one_seed(), run)


@pytest.mark.parametrize(
    "name",
    [
        *(f"cells/r-seed0/{name}" for name in (*FILES, "checksums.json")),
        "recipe.json",
        "environment.json",
        "records.jsonl",
    ],
)
def test_a_flipped_bit_is_refused_or_changes_no_figure(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(one_cell, "train", pytest.fail)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    run = shutil.copytree(tiny_run, tmp_path / "run")
    whole, rng, page = (run / name).read_bytes(), random.Random(name), (run / "report.html").read_bytes()
    refused, flips = 0, 3 if name in ("records.jsonl", "environment.json") else 12
    for _ in range(flips):
        (run / name).write_bytes(flipped(whole, rng.randrange(len(whole)), rng.randrange(8)))
        try:
            grid.compare(one_seed(), run)
        except InputError as error:
            refused += Path(name).name in str(error)
        else:
            assert name in ("records.jsonl", "recipe.json", "environment.json") or name.endswith("checksums.json")
            assert outcome(run) == outcome(tiny_run)
            assert (run / "report.html").read_bytes() == page
            refused += name != "records.jsonl"
    assert refused == (0 if name == "records.jsonl" else flips), "it was refused and the file not named"


def test_two_processes_claim_a_folder_at_once(tmp_path: Path) -> None:
    """One of two recipes gets it, whole, and the other is refused."""
    for number in range(8):
        out = tmp_path / str(number)
        start = threading.Barrier(2)

        def claim(epochs: int, out: Path = out, start: threading.Barrier = start) -> str:
            folder = RunFolder(out, "recipe.json", "comparison", GROWS)
            identity = {"epochs": epochs, "methods": ["base"], "seeds": [0]}
            start.wait()
            try:
                folder.claim(identity, {})
            except InputError as error:
                return str(error)
            return "claimed"

        with ThreadPoolExecutor(2) as pool:
            told = sorted(pool.map(claim, (1, 2)), key=len)
        assert told[0] == "claimed"
        assert "holds another comparison: epochs is " in told[1]


# Pretrained weights


TUNED = replace(
    TINY,
    data="pictures",
    size=32,
    model="timm/test_resnet",
    weights="w.safetensors",
    seeds=(0, 1),
    train=TrainConfig(epochs=1, batch_size=8, lr=1e-9, freeze="bn", device="cpu"),
)


def save_timms(path: str, seed: int = 0) -> dict[str, Any]:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    save_file(state, path)
    return {key: tensor.clone() for key, tensor in state.items()}


def test_all_networks_start_from_the_weights_and_are_loaded_without_the_file() -> None:
    make_pictures(Path("pictures"))
    theirs = save_timms("w.safetensors")
    summary = grid.compare(TUNED, "run")
    assert set(summary.costs) == {"base", "r"}
    sha256 = hashlib.sha256(Path("w.safetensors").read_bytes()).hexdigest()
    stored = json.loads(Path("run/recipe.json").read_text())
    assert stored["pretrained_sha256"] == stored["identity"]["pretrained_sha256"] == sha256
    assert "weights" not in stored["identity"]
    assert re.search(rf"pretrained weights, SHA-256\W+{sha256}", Path("run/report.md").read_text())
    Path("w.safetensors").unlink()
    heads = {}
    for method, seed in TUNED.cells:
        folder = Path("run/cells") / cell_name(method, seed)
        model = load_network(folder)
        own = model.get_submodule("network").state_dict()
        heads[method, seed] = own["fc.weight"]
        for key, tensor in theirs.items():
            if not key.startswith("fc."):
                torch.testing.assert_close(own[key], tensor, rtol=1e-4, atol=1e-4)
        assert json.loads((folder / "model.json").read_text())["pretrained_sha256"] == sha256
        assert from_checkpoint(folder, load(TUNED.data, None, "test", TUNED.size).info).architecture == TUNED.model
    torch.testing.assert_close(heads["base", 0], heads["r", 0], rtol=0, atol=1e-4)
    assert not torch.allclose(heads["base", 0], heads["base", 1], atol=1e-2), "the new layer follows from the seed"


def test_images_are_resized_as_the_network_wants_them_unless_it_is_said() -> None:
    make_pictures(Path("pictures"))
    save_timms("w.safetensors")
    for changes, wanted in (
        ({"size": None}, ((3, 160, 160), "bilinear")),
        ({"model": "timm/test_vit", "size": None}, ((3, 160, 160), "bicubic")),
        ({"model": "timm/test_vit", "interpolation": "bilinear"}, ((3, 32, 32), "bilinear")),
        ({"weights": None, "pretrained": False, "train": TINY.train}, ((3, 32, 32), "bilinear")),
    ):
        info = one_cell.load_splits(replace(TUNED, **changes)).test.info
        assert (info.shape, info.interpolation) == wanted


def test_other_weights_are_another_comparison_and_the_same_elsewhere_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(Path("pictures"))
    save_timms("w.safetensors")
    short = replace(TUNED, methods=("base",), seeds=(0,))
    grid.compare(short, "run")
    grid.train_one(short, "trained")
    Path("w.safetensors").rename("elsewhere.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(one_cell, "train", pytest.fail)
        grid.compare(replace(short, weights="elsewhere.safetensors"), "run")
        grid.train_one(replace(short, weights="elsewhere.safetensors"), "trained")
        save_timms("w.safetensors", seed=1)
        for call, folder in ((grid.compare, "run"), (grid.train_one, "trained")):
            with pytest.raises(InputError, match=r"another comparison: pretrained_sha256 is .* there and .* here"):
                call(short, folder)
    splits = [one_cell.load_splits(replace(short, weights=path)) for path in ("w.safetensors", "elsewhere.safetensors")]
    assert grid.comparison_folder(short, splits[0]) != grid.comparison_folder(short, splits[1])
    Path("w.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot read weights from w\.safetensors: No such file"):
        grid.compare(short, "new")
    assert not Path("new").exists()


# Images that were changed behind the run


PICTURED = replace(TINY, data="pictures", seeds=(0,), train=TrainConfig(epochs=1, batch_size=8, lr=0.01, device="cpu"))
ALONE = replace(PICTURED, methods=("r",), baseline="r")


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compare, and train one network, on pictures; give the folder of both runs."""
    folder = tmp_path_factory.mktemp("pictured")
    make_pictures(folder / "pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        grid.compare(PICTURED, "compared")
        grid.train_one(ALONE, "trained")
    return folder


def copied(pictured: Path) -> None:
    """Copy pictures and runs into the working folder; the same pictures elsewhere are the same work."""
    make_pictures(Path("pictures"))
    for name in ("compared", "trained"):
        shutil.copytree(pictured / name, name)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_refused_under_a_folders_name_and_get_another_without(
    pictured: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    copied(pictured)
    with monkeypatch.context() as patch:
        patch.setattr(one_cell, "train", pytest.fail)
        grid.compare(PICTURED, "compared")
        trained, records = grid.train_one(ALONE, "trained")
        assert records == read_records(trained / "records.jsonl")
    CHANGES[change](Path("pictures"))
    before = outcome(Path("compared"))
    told = r"holds another comparison: .*images.* is .* there and .* here.*Choose another folder with --out"
    with pytest.raises(InputError, match=f"compared {told}"):
        grid.compare(PICTURED, "compared")
    with pytest.raises(InputError, match=f"compared {told}"):
        grid.compare(replace(PICTURED, methods=("base", "r", "gaussian")), "compared")
    with pytest.raises(InputError, match=f"trained {told}"):
        grid.train_one(ALONE, "trained")
    assert outcome(Path("compared")) == before
    splits, now = (
        one_cell.load_splits(replace(PICTURED, data=str(pictured / "pictures"))),
        one_cell.load_splits(PICTURED),
    )
    for recipe in (PICTURED, ALONE):
        assert grid.comparison_folder(recipe, splits) != grid.comparison_folder(recipe, now)


def test_figures_of_changed_images_are_those_of_a_fresh_run(pictured: Path) -> None:
    copied(pictured)
    first, _ = grid.run_comparison(PICTURED)
    assert outcome(first) == outcome(pictured / "compared")
    CHANGES["test labels swapped"](Path("pictures"))
    second, _ = grid.run_comparison(PICTURED)
    assert first != second
    old, new = (read_records(folder / "records.jsonl") for folder in (first, second))
    assert [row.correct for row in new] == [row.n - row.correct for row in old], "each answer is now the other's"
    alone = {grid.train_one(ALONE)[0], first, second}
    assert len(alone) == 3


def test_a_folder_of_the_same_name_elsewhere_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        make_pictures(tmp_path / str(number) / "pictures", seed=number)
        monkeypatch.chdir(tmp_path / str(number))
        if number == 1:
            grid.compare(PICTURED, tmp_path / "run")
    with pytest.raises(InputError, match=r"images.train.pixels is '[0-9a-f]{8}\.\.\.' there and"):
        grid.compare(PICTURED, tmp_path / "run")


KILLED = runpy.run_path(str(Path(__file__).with_name("killed.py")))
KILLED_RECIPE = KILLED["RECIPE"]
mounts = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root may mount a small disk")


def mount(*arguments: object) -> None:
    subprocess.run([str(argument) for argument in arguments], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mount("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder)
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be mounted here")
    yield folder
    mount("umount", "-l", folder)


@mounts
@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_words_and_with_room_it_goes_on_to_the_same_end(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1)
    with pytest.raises(
        InputError, match=r"cannot write .*: No space left on device\. Make room; the same command continues"
    ):
        grid.compare(KILLED_RECIPE, small_disk / "run")
    assert not list(small_disk.rglob(".*.npz.*")), "a half-written file stayed"
    mount("mount", "-o", "remount,size=64m", small_disk)
    grid.compare(KILLED_RECIPE, small_disk / "run")
    grid.compare(KILLED_RECIPE, tmp_path / "undisturbed")
    assert outcome(small_disk / "run") == outcome(tmp_path / "undisturbed")


@mounts
def test_a_disk_that_cannot_be_written_is_told(small_disk: Path) -> None:
    (small_disk / "run").mkdir()
    mount("mount", "-o", "remount,ro", small_disk)
    with pytest.raises(
        InputError, match=r"cannot lock .*: .*Read-only file system.*choose, with --out, a folder that can be written"
    ):
        grid.compare(KILLED_RECIPE, small_disk / "run")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_disk_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InputError, match=r"cannot lock .*claim.*a folder that can be written, on a disk that has them"):
        grid.compare(KILLED_RECIPE, tmp_path / "run")
