"""The ledger's verdicts and figures, from runs that are written for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scipy import stats as scipy_stats

from cases import tiny_info
from resolute.data import customs
from resolute.errors import InputError
from resolute.paper.ledger import (
    FULL,
    KEYS,
    OTHER,
    PUBLISHED,
    QUOTE,
    REDUCED,
    RUNS,
    LedgerRow,
    ledger,
    read_pools,
    results_folder,
    training_of,
)
from resolute.paper.rows import QUOTED, TRAINED
from resolute.paper.tables import ROWS
from resolute.run_folder import read_records, write_records
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable

BASE, R = [52, 50, 55, 49, 51], [40, 41, 42, 37, 40]


def read(folder: Path) -> dict[str, LedgerRow]:
    return {entry.row.id: entry for entry in ledger(read_pools(folder))}


def test_without_records_every_row_runs_or_is_quoted() -> None:
    entries = {entry.row.id: entry for entry in ledger([])}
    assert entries.keys() == ROWS.keys()
    assert {row for row, entry in entries.items() if entry.state == RUNS} == TRAINED.keys()
    assert {row for row, entry in entries.items() if entry.state == QUOTE} == QUOTED.keys()
    assert all(entry.why for entry in entries.values())
    assert entries["5-r-w-resnet-cifar10"].why == "needs CIFAR-10, 26 GPU hours"


def test_gpu_hours_by_hand() -> None:
    """5.24 G multiply-adds, six operations each, 50,000 images, 300 epochs, 5 seeds; base once and R once."""
    hours = 5.2433e9 * 6 * 50_000 * 300 * 5 * 2 / 50e12 / 3600
    assert round(hours) == 26


def test_claimed_differences_are_those_of_the_print() -> None:
    claimed = {
        (entry.row.id, line.value.what): line.claimed for entry in ledger([]) for line in entry.lines if line.claimed
    }
    assert claimed["4-r-lenet", "error"] == -0.22
    assert claimed["1-r-condensenet-g4", "random five-crop"] == 0.74
    assert claimed["2-fgsm-nasnet-a", "top-5"] == -4.1
    assert {row for row, _ in claimed} == {row.id for row in ROWS.values() if row.method != "base"}


def test_a_full_measurement_has_intervals_and_a_verdict(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "lenet", "4-r-lenet", {"base": BASE, "r": R})
    entries = read(tmp_path)
    base, r = entries["4-lenet"], entries["4-r-lenet"]
    assert (base.state, r.state, r.why) == (FULL, FULL, "")
    [found] = r.lines[0].measured
    low, high = scipy_stats.t.interval(0.95, 4, 0.40, scipy_stats.sem([wrong / 100 for wrong in R]))
    assert (found.value.mean, found.value.low, found.value.high) == pytest.approx((0.40, low, high))
    assert (found.seeds, found.images, found.setting) == (5, 10_000, "noise-to-signal 1 at hidden")
    test = scipy_stats.ttest_rel(R, BASE)
    assert found.p_holm == pytest.approx(test.pvalue)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(-0.114)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        tuple(bound / 100 for bound in test.confidence_interval())
    )
    assert found.verdict == "better, by less than claimed"
    assert base.lines[0].measured[0].difference is None
    assert base.lines[0].measured[0].verdict == ""


def test_p_values_are_adjusted_over_the_whole_ledger(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "lenet", "4-r-lenet", {"base": BASE, "r": R, "fgsm": [50, 52, 50, 51, 50]})
    run(tmp_path / "capsnet", "4-r-capsnet", {"base": [35, 34, 36, 33, 37], "r": [34, 35, 35, 33, 38]})
    found = [m for entry in read(tmp_path).values() for line in entry.lines for m in line.measured if m.difference]
    assert len(found) == 3
    smallest = min(found, key=lambda measured: measured.p_holm)
    assert smallest.paired is not None
    assert smallest.p_holm == pytest.approx(3 * smallest.paired.p("seeds"))
    for measured in found:
        assert measured.difference is not None
        excluded = measured.difference.low > 0 or measured.difference.high < 0
        assert excluded == (measured.p_holm <= 0.05)


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ([30, 27, 33, 28, 30], "better, as claimed"),
        ([10, 8, 13, 7, 8], "better, by more than claimed"),
        ([52, 50, 55, 49, 52], "no difference seen, claim excluded"),
        ([20, 90, 30, 60, 40], "no difference seen, claim possible"),
        ([72, 71, 75, 68, 71], "worse, where better is claimed"),
    ],
)
def test_verdicts(wrong: list[int], verdict: str, tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "lenet", "4-r-lenet", {"base": BASE, "r": wrong})
    assert read(tmp_path)["4-r-lenet"].lines[0].measured[0].verdict == verdict


def test_one_seed_says_nothing_of_a_difference(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "lenet", "4-r-lenet", {"base": [50], "r": [28]})
    entry = read(tmp_path)["4-r-lenet"]
    [found] = entry.lines[0].measured
    assert (entry.state, entry.why, found.verdict) == (REDUCED, "1 of 5 seeds", "one seed, not tested")
    assert found.difference is not None
    assert math.isnan(found.difference.low)
    assert found.value.low < 0.28 < found.value.high


def test_what_departs_from_the_recipe_is_said(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "short", "4-r-lenet", {"base": BASE, "r": R}, train={"epochs": 3})
    run(tmp_path / "other", "4-r-capsnet", {"base": BASE, "r": R}, train={"lr": 0.002}, settings={"eps": 0.2})
    entries = read(tmp_path)
    assert (entries["4-lenet"].state, entries["4-lenet"].why) == (REDUCED, "epochs 3 instead of 20")
    assert (entries["4-r-capsnet"].state, entries["4-capsnet"].why) == (OTHER, "lr 0.002 instead of 0.001")
    assert entries["4-r-capsnet"].why == "lr 0.002 instead of 0.001; eps 0.2 instead of auto"


def test_the_recipes_own_setting_comes_first_whatever_it_gives(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-r-lenet", {"base": BASE, "r": [20, 21, 22, 20, 21]}, settings={"eps": 0.3})
    run(tmp_path / "b", "4-r-lenet", {"r": R})
    found = read(tmp_path)["4-r-lenet"].lines[0].measured
    assert [measured.setting for measured in found] == ["noise-to-signal 1 at hidden", "eps 0.3 at hidden"]
    assert [measured.pairs for measured in found] == [5, 5]


def test_a_part_of_the_training_set_measures_no_row(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "part", "4-r-lenet", {"base": [300] * 5, "r": R}, train_fraction=0.1)
    assert {entry.state for entry in read(tmp_path).values()} == {RUNS, QUOTE}


def test_copies_and_rates_of_dropout_are_the_same_network_and_data(tmp_path: Path, run: Callable[..., None]) -> None:
    run(
        tmp_path / "wide", "5-r-w-resnet-cifar10", {"base": [400, 410, 390, 405, 395]},
        data="some/where/cifar10-jpeg", model="wrn-28-10",
    )  # fmt: skip
    run(tmp_path / "narrow", "5-r-w-resnet-cifar10", {"base": [900] * 5}, model="wrn-16-1")
    entries = read(tmp_path)
    assert entries["5-w-resnet-cifar10"].state == OTHER
    assert entries["5-w-resnet-cifar10"].why == (
        "data cifar10-jpeg instead of cifar10; model wrn-28-10 instead of wrn-28-10-drop30"
    )
    assert len(entries["5-w-resnet-cifar10"].lines[0].measured) == 1
    assert entries["5-w-resnet-cifar100"].state == RUNS


def test_disturbances_are_shown_as_accuracies_and_only_at_their_customary_severity(
    tmp_path: Path, run: Callable[..., None]
) -> None:
    crop = KEYS["random crop"]
    run(tmp_path / "a", "1-r-condensenet-g8", {"base": [300, 310], "r": [290, 295]}, n=1000, key=crop)
    run(tmp_path / "b", "1-r-condensenet-g4", {"base": [300, 310]}, n=1000, key=(*crop[:2], 0.25))
    entries = read(tmp_path)
    first, *others = entries["1-r-condensenet-g8"].lines
    [found] = first.measured
    assert found.value.mean == pytest.approx(70.75)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(1.25)
    assert found.difference.low < 1.25 < found.difference.high
    assert not any(line.measured for line in others)
    assert entries["1-condensenet-g4"].state == RUNS
    assert entries["3-r-condensenet-g8"].state == RUNS


def test_one_training_fills_in_the_rows_of_both_tables(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path, "1-r-condensenet-g8", {"base": [1000, 1010], "r": [900, 911]}, key=KEYS["top-5"])
    lines = {line.value.what: line for line in read(tmp_path)["3-r-condensenet-g8"].lines}
    assert lines["top-5"].measured[0].value.mean == pytest.approx(9.055)
    assert lines["top-5"].measured[0].verdict == "better, by more than claimed"
    assert not lines["top-1"].measured
    assert set(TRAINED["3-r-condensenet-g8"].recipe.suites) <= set(TRAINED["1-r-condensenet-g8"].recipe.suites)


def test_a_variant_measures_what_its_name_says(tmp_path: Path, run: Callable[..., None]) -> None:
    """The same networks by `--methods base,r@where=input` and by `--methods base,r --where input`."""
    run(tmp_path / "a/named", "4-r-lenet", {"base": BASE, "r@where=input": R})
    run(tmp_path / "b/asked", "4-r-lenet", {"base": BASE, "r": R}, settings={"where": "input"})
    [named], [asked] = (read(tmp_path / side)["4-r-lenet"].lines[0].measured for side in "ab")
    assert named == asked
    assert named.setting == "noise-to-signal 1 at input"


def test_state_and_seeds_are_those_of_the_number(tmp_path: Path, run: Callable[..., None]) -> None:
    crop, five = KEYS["random crop"], KEYS["random five-crop"]
    run(tmp_path / "a", "1-r-condensenet-g8", {"base": BASE, "r": R}, n=1000, key=crop)
    run(tmp_path / "b", "1-r-condensenet-g8", {"base": BASE[:2], "r": R[:2]}, n=1000, key=five)
    lines = {line.value.what: line.measured for line in read(tmp_path)["1-r-condensenet-g8"].lines}
    [whole], [part] = lines["random crop"], lines["random five-crop"]
    assert (whole.state, whole.seeds, whole.departures) == (FULL, 5, ())
    assert (part.state, part.seeds, part.departures) == (REDUCED, 2, ("2 of 5 seeds",))


def test_of_a_difference_the_shared_seeds_are_counted(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-r-lenet", {"r": R})
    run(tmp_path / "b", "4-r-lenet", {"base": BASE[:3]})
    [found] = read(tmp_path)["4-r-lenet"].lines[0].measured
    assert (found.seeds, found.pairs) == (5, 3)
    assert found.verdict.endswith(" (over 3 seeds of base)")


def test_seeds_without_a_result_are_said(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-r-lenet", {"base": BASE, "r": R})
    path = tmp_path / "a/records.jsonl"
    left = [row for row in read_records(path) if (row.method, row.seed) not in {("r", 1), ("r", 4)}]
    write_records(path, left)
    entry = read(tmp_path)["4-r-lenet"]
    assert entry.why == "3 of 5 seeds; 2 more seeds asked for and without a result"


def test_what_follows_the_data_set_counts_as_a_departure_too(tmp_path: Path, run: Callable[..., None]) -> None:
    """These two recipes say nothing of radius and augmentation: the customary ones are theirs."""
    run(tmp_path / "a", "4-fgsm-lenet", {"base": BASE, "fgsm": R}, settings={"radius": 0.3})
    augment = replace(customs("imagenet")[0], erase=0.9)
    run(tmp_path / "b", "1-r-condensenet-g8", {"base": BASE}, key=KEYS["random crop"], train={"augment": augment})
    entries = read(tmp_path)
    assert entries["4-fgsm-lenet"].why == "radius 0.3 instead of 0.1"
    assert entries["1-condensenet-g8"].why == "augmentation's erase 0.9 instead of 0"


def test_equal_differences_exclude_nothing(tmp_path: Path, run: Callable[..., None]) -> None:
    """Two seeds that both differ by 2 images: an interval of no width, which is no evidence against -0.22 points."""
    run(tmp_path / "a", "4-r-lenet", {"base": [50, 52], "r": [48, 50]})
    assert read(tmp_path)["4-r-lenet"].lines[0].measured[0].verdict == "no difference seen"


def test_one_seed_adds_no_comparison(tmp_path: Path, run: Callable[..., None]) -> None:
    run(tmp_path / "a", "4-r-lenet", {"base": BASE, "r": R})
    run(tmp_path / "b", "4-r-capsnet", {"base": [50], "r": [28]})
    found = read(tmp_path)["4-r-lenet"].lines[0].measured[0]
    assert found.paired is not None
    assert found.p_holm == found.paired.p("seeds")


def test_each_printed_measure_is_a_shift_that_is_measured() -> None:
    for what, key in KEYS.items():
        info = tiny_info(classes=9, shape=(1, 8, 8) if what == "error" else (3, 8, 8))
        assert key in [shift.key for shift in find_shifts((key[0],), info)]


def test_published_weights_are_a_state_of_their_own(tmp_path: Path) -> None:
    from resolute.paper.run import _described
    from resolute.run_folder import Record, write_json, write_records

    write_json(tmp_path / "senet/recipe.json", _described(ROWS["2-senet"]))
    record = Record("imagenet", "senet-154", "weights", 0, "clean", "clean", 0.0, 8268, 10_000)
    write_records(tmp_path / "senet/records.jsonl", [record])
    entries = read(tmp_path)
    assert entries["2-senet"].state == PUBLISHED
    assert entries["2-senet"].lines[0].measured[0].value.mean == pytest.approx(82.68)
    assert entries["2-nasnet-a"].state == RUNS


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
    assert {("mnist", "lenet-caffe", method) for method in ("base", "fgsm", "r")} <= trained
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
