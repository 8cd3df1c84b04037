"""The figures of a comparison by hand, and its sentences."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

import crossed
from resolute.report.comparison import summarise
from resolute.report.numbers import p_value
from resolute.report.run import COUNTS_ALONE, load_run
from resolute.run_folder import read_bits, read_records, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    MakeRun = Callable[..., Path]

METHODS, SEEDS = ("base", "fgsm", "r"), range(5)
SUITES = {"clean": [0.0], "noise": [0.1, 0.2, 0.3], "fgsm": [0.03, 0.1]}
SHIFT = {"clean": "clean", "noise": "gaussian-noise", "fgsm": "fgsm"}


def wrong(folder: Path, method: str, suite: str, severities: list[float]) -> NDArray[np.int64]:
    """From the files alone: wrong answers, [seeds, severities, n]."""
    cells = [read_bits(folder / "cells" / f"{method}-seed{seed}" / "bits.npz") for seed in SEEDS]
    return np.array([[~cell[suite, SHIFT[suite], s] for s in severities] for cell in cells]).astype(np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, build: Callable[..., Path]) -> Path:
    return build(tmp_path_factory.mktemp("summary") / "run")


def test_errors_and_intervals_by_hand(folder: Path) -> None:
    summary = summarise(load_run(folder))
    for method, (suite, severities) in itertools.product(METHODS, SUITES.items()):
        by_seed = [np.mean([w.mean() for w in seed]) for seed in wrong(folder, method, suite, severities)]
        low, high = reference.t.interval(0.95, 4, loc=np.mean(by_seed), scale=reference.sem(by_seed))
        entry = summary.table[method, suite]
        assert entry.error.mean == pytest.approx(np.mean(by_seed))
        assert entry.error.low == pytest.approx(max(low, 0))
        assert entry.error.high == pytest.approx(high)
        assert entry.seeds == 5


def test_differences_and_p_values_by_hand(folder: Path) -> None:
    summary = summarise(load_run(folder))
    expected = {}
    for method, (suite, severities) in itertools.product(METHODS[1:], SUITES.items()):
        a, b = (wrong(folder, name, suite, severities) for name in (method, "base"))
        entry = summary.table[method, suite]
        assert entry.comparison is not None
        expected[method, suite] = [crossed.p_value(a, b, over) for over in ("seeds and images", "seeds")]
        found, here = entry.comparison.found, entry.comparison.here
        assert found.difference.mean == pytest.approx((a - b).mean())
        assert [found.p, here.p] == pytest.approx(expected[method, suite], rel=1e-6)
        assert (found.difference.low, found.difference.high) == pytest.approx(crossed.interval(a, b, found.level))
        assert (here.difference.low, here.difference.high) == pytest.approx(crossed.interval(a, b, here.level, "seeds"))
    adjusted = [multipletests(p, method="holm")[1] for p in zip(*expected.values(), strict=True)]
    for place, p, p_here in zip(expected, *adjusted, strict=True):
        comparison = summary.table[place].comparison
        assert comparison is not None
        for own, p_holm in ((comparison.found, p), (comparison.here, p_here)):
            assert own.p_holm == pytest.approx(p_holm, rel=1e-6)
            word = "no difference seen" if p_holm > 0.05 else "better" if own.difference.mean < 0 else "worse"
            assert own.verdict == word
            assert (own.difference.low > 0 or own.difference.high < 0) == (p_holm <= 0.05)
    assert {entry.comparison.verdict for entry in summary.table.values() if entry.comparison} == {
        "better",
        "no difference seen",
    }


def test_the_details_are_one_severity_each_and_adjusted_together(folder: Path) -> None:
    summary = summarise(load_run(folder))
    assert [(e.keys[0][2], e.method) for e in summary.details] == [
        (severity, method) for severities in SUITES.values() for severity in severities for method in METHODS
    ]
    tested = [e.comparison for e in summary.details if e.comparison]
    assert len(tested) == 12
    adjusted = multipletests([c.found.p for c in tested], method="holm")[1]
    assert [c.found.p_holm for c in tested] == pytest.approx(list(adjusted))
    last = next(e for e in summary.details if e.method == "r" and e.keys[0] == ("fgsm", "fgsm", 0.1))
    assert last.error.mean == pytest.approx(wrong(folder, "r", "fgsm", [0.1]).mean())


def test_best_differs_from_every_other_method(folder: Path) -> None:
    duels = {}
    for suite, severities in SUITES.items():
        for one, two in itertools.combinations(METHODS, 2):
            a, b = (wrong(folder, name, suite, severities) for name in (one, two))
            duels[suite, one, two] = crossed.p_value(a, b)
    adjusted = dict(zip(duels, multipletests(list(duels.values()), method="holm")[1], strict=True))
    expected = set()
    for suite, severities in SUITES.items():
        best = min(METHODS, key=lambda m: wrong(folder, m, suite, severities).mean())
        if all(p <= 0.05 for (s, one, two), p in adjusted.items() if s == suite and best in (one, two)):
            expected.add((best, suite))
    table = summarise(load_run(folder)).table
    assert expected
    assert {place for place, entry in table.items() if entry.best} == expected


def test_costs_are_medians_of_steps_side_by_side(folder: Path) -> None:
    times = json.loads((folder / "timing.json").read_text())["methods"]
    ratios = np.sort(np.array(times["fgsm"]["ms"]) / np.array(times["fgsm"]["baseline_ms"]))
    costs = summarise(load_run(folder)).costs
    fgsm = costs["fgsm"].ratio
    test: Any = reference.quantile_test(ratios, q=0, p=0.5).confidence_interval(0.95)
    assert (fgsm.low, fgsm.mean, fgsm.high) == pytest.approx((test.low, np.median(ratios), test.high))
    assert fgsm.low < fgsm.high
    assert (costs["fgsm"].steady, costs["base"].steady) == (False, True)
    assert costs["base"].ratio.mean == 1
    assert costs["base"].step_ms == pytest.approx(np.median(times["r"]["baseline_ms"]))
    assert (costs["base"].passes, costs["fgsm"].passes) == (1, 3)
    assert {cost.doubt for cost in costs.values()} == {""}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ms": [1.0, 2.0] * 5, "baseline_ms": [1.0] * 10}, "the 95 % interval of its step time over that of base is"),
        ({"ms": [1.0] * 3, "baseline_ms": [1.0] * 3}, "over that of base is unknown"),
        ({"load": 3.5}, "3.50 processes wanted 2 cores while its steps were timed"),
    ],
)
def test_no_cost_is_given_where_it_was_not_measured_well(make_run: MakeRun, change: dict[str, Any], told: str) -> None:
    folder = make_run()
    times = json.loads((folder / "timing.json").read_text())
    times["methods"]["r"] |= change
    write_json(folder / "timing.json", times)
    summary = summarise(load_run(folder))
    assert summary.sentence.endswith("Holm-corrected).")
    assert np.isnan(summary.costs["r"].ratio.mean)
    assert told in summary.costs["r"].doubt
    assert f"No cost is given for r: {summary.costs['r'].doubt}." in " ".join(summary.limits)
    assert summary.costs["fgsm"].ratio.mean == pytest.approx(2.58, rel=0.02)


def test_one_seed_gives_intervals_over_images_and_claims_nothing(make_run: MakeRun) -> None:
    summary = summarise(load_run(make_run(seeds=(0,))))
    for (_, suite), entry in summary.table.items():
        low, high = proportion_confint(round(entry.error.mean * 360), 360, method="wilson")
        if suite == "clean":
            assert (entry.error.low, entry.error.high) == pytest.approx((low, high))
        assert entry.error.low <= entry.error.mean <= entry.error.high
        assert not entry.best
        assert entry.comparison is None or entry.comparison.verdict == "no difference seen"
    noise = summary.table["base", "noise"].error
    pooled = proportion_confint(round(3 * 360 * noise.mean), 3 * 360, method="wilson")
    assert noise.high - noise.low > 1.5 * (pooled[1] - pooled[0])  # 360 images shown thrice are not 1080


def test_a_partial_run_compares_the_seeds_that_both_have(make_run: MakeRun) -> None:
    folder = make_run(unfinished=(("r", 3), ("base", 4)))
    summary = summarise(load_run(folder))
    comparison = summary.table["r", "clean"].comparison
    assert comparison is not None
    assert comparison.seeds == 3
    seeds = [0, 1, 2]
    a, b = (wrong(folder, name, "clean", [0.0])[seeds].mean() for name in ("r", "base"))
    assert (comparison.error, comparison.baseline) == pytest.approx((a, b))
    assert summary.table["r", "clean"].seeds == 4
    assert summary.missing == (("base", 4), ("r", 3))


@pytest.mark.parametrize("gone", ["r", "base"])
def test_a_method_without_a_finished_seed_is_a_gap(make_run: MakeRun, gone: str) -> None:
    summary = summarise(load_run(make_run(unfinished=tuple((gone, seed) for seed in SEEDS))))
    assert np.isnan(summary.table[gone, "clean"].error.mean)
    assert np.isnan(summary.costs[gone].ratio.mean)
    assert summary.table["r", "clean"].comparison is None
    assert (summary.table["fgsm", "clean"].comparison is None) == (gone == "base")


def test_the_baseline_is_what_the_recipe_names(make_run: MakeRun) -> None:
    summary = summarise(load_run(make_run(baseline="r")))
    assert summary.table["r", "noise"].comparison is None
    comparison = summary.table["base", "noise"].comparison
    assert comparison is not None
    assert comparison.verdict == "worse"


NOISE = tuple(("noise", "gaussian-noise", severity) for severity in (0.1, 0.2, 0.3))
SIGNED = r"[+-]\d+\.\d\d"
NUMBERS = rf"\({SIGNED} points, 9[\d.]+ % interval {SIGNED} to {SIGNED}, 5 paired seeds; "
COST = r"Holm-corrected\); a training step takes \d\.\d\d times as long as with"
SPREAD = r", 95 % interval \d\.\d\d to \d\.\d\d\."


def sentence(folder: Path) -> str:
    return summarise(load_run(folder)).sentence


def errors(folder: Path, suite: str) -> dict[str, float]:
    """Mean errors in percent, from the records alone."""
    records = [r for r in read_records(folder / "records.jsonl") if r.suite == suite]
    return {m: 100 * float(np.mean([r.error for r in records if r.method == m])) for m in {r.method for r in records}}


def test_no_difference_is_said_with_its_interval(make_run: MakeRun) -> None:
    folder = make_run()
    error = errors(folder, "clean")
    start = f"No significant difference between r and base in the clean error: {error['r']:.2f} against "
    said = rf"{start}{error['base']:.2f} % {NUMBERS}not significant at 5 %: p = [\d.]+, {COST} base{SPREAD}"
    assert re.fullmatch(said, sentence(folder))


def test_better_and_worse(make_run: MakeRun) -> None:
    folder = make_run("better", keys=NOISE)
    better = sentence(folder)
    worse = sentence(make_run("worse", keys=NOISE, methods=("r", "base"), baseline="r"))
    error = errors(folder, "noise")
    r, base, change = f"{error['r']:.2f}", f"{error['base']:.2f}", f"{error['base'] - error['r']:.2f}"
    end = rf"{NUMBERS}significant at 5 %: p [=<] [\d.]+, {COST}"
    said = rf"R lowers the noise error from {base} to {r} % {end} base{SPREAD}"
    assert re.fullmatch(said, better)
    said = rf"Base raises the noise error from {r} to {base} % {end} r{SPREAD}"
    assert re.fullmatch(said, worse)
    assert f"(-{change} points" in better
    assert f"(+{change} points" in worse


def test_without_step_times_no_cost_is_claimed(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "timing.json").unlink()
    assert sentence(folder).endswith("Holm-corrected).")
    assert "No cost is given: no steps were timed side by side." in limits(folder)


def test_one_seed_and_no_pair(make_run: MakeRun) -> None:
    assert "with 1 seed, which says nothing about other seeds" in sentence(make_run("one", seeds=(0,)))
    alone = make_run("alone", methods=("base",))
    assert sentence(alone) == (
        f"base has a clean error of {errors(alone, 'clean')['base']:.2f} %; there is nothing to compare it with."
    )
    unpaired = make_run("unpaired", seeds=(0,), unfinished=(("base", 0),))
    assert sentence(unpaired).endswith("; no seed of base is finished to compare it with.")
    nothing = make_run("nothing", seeds=(0,), unfinished=(("r", 0),))
    assert sentence(nothing) == "No result yet: no seed of r is finished."


def test_these_images_are_told_from_new_ones(make_run: MakeRun) -> None:
    """In every seed r is right on four images that base gets wrong, and on one of the others it errs instead."""
    run = load_run(make_run(keys=(("clean", "clean", 0.0),), methods=("base", "r")))
    images = np.arange(360)
    wrong = {"base": [images < 10] * 5, "r": [(images < 6) | (images == 20 + 7 * s) & (s % 2 == 0) for s in SEEDS]}
    key = ("clean", "clean", 0.0)
    cells = {
        (m, s): replace(cell, errors={key: float(wrong[m][s].mean())}, wrong={key: wrong[m][s]})
        for (m, s), cell in run.cells.items()
    }
    summary = summarise(replace(run, cells=cells))
    comparison = summary.table["r", "clean"].comparison
    assert comparison is not None
    assert (comparison.verdict, comparison.here.verdict) == ("no difference seen", "better")
    assert comparison.word == "no difference seen (on these images: better)"
    assert summary.sentence.startswith("No significant difference between r and base in the clean error")
    ours, theirs = (np.array(wrong[method]) for method in ("r", "base"))
    p = re.escape(p_value(crossed.p_value(ours, theirs, "seeds"), "p"))
    said = rf"On these 360 images r is better than base in the clean error \(5 seeds, {p}\); for new images they are "
    [told] = summary.apart
    assert re.fullmatch(said + r"too few to tell: about [\d,]+ images would do\.", told)
    counts_alone = replace(run, cells={place: replace(cell, wrong={}) for place, cell in cells.items()})
    alone = summarise(counts_alone).table["r", "clean"].comparison
    assert alone is not None
    assert alone.verdict == "better"  # on these images, which the report says
    assert alone.found == alone.here
    assert alone.found.p == pytest.approx(comparison.here.p)
    assert COUNTS_ALONE in summarise(counts_alone).limits


@pytest.mark.parametrize("seeds", [range(2), range(5), range(9)])
@pytest.mark.parametrize("counts", [False, True])
def test_no_row_contradicts_itself(make_run: MakeRun, seeds: range, *, counts: bool) -> None:
    run = load_run(make_run(seeds=tuple(seeds)))
    if counts:
        run = replace(run, cells={place: replace(cell, wrong={}) for place, cell in run.cells.items()})
    summary = summarise(run)
    rows = [own for entry in (*summary.table.values(), *summary.details) if (own := entry.comparison)]
    assert len(rows) == 18
    for each in (each for row in rows for each in (row.found, row.here)):
        bounds = each.difference
        assert (bounds.low > 0 or bounds.high < 0) == (each.p_holm <= 0.05) == (each.verdict != "no difference seen")
    assert all(row.here.verdict == row.verdict or row.verdict == "no difference seen" for row in rows)


def limits(folder: Path) -> str:
    return "\n".join(summarise(load_run(folder)).limits)


def test_limits_name_what_was_not_run(make_run: MakeRun) -> None:
    text = limits(make_run())
    for part in (
        "One data set (digits, 360 images of its test split) and one network (lenet)",
        "Student's t over 5 seeds) cover new seeds on the same images",
        "does not mean that there is none",
        "Of attacks only FGSM was run",
        "Not run: PGD, AutoAttack and black-box attacks",
        "everyday disturbances",
        "the corruption benchmark",
        "No control of equal power",
    ):
        assert part in text
    assert "not finished" not in text


def test_limits_follow_what_was_run(make_run: MakeRun) -> None:
    keys = (("clean", "clean", 0.0), ("corruptions", "fog", 1.0), ("attacks", "autoattack", 0.03))
    text = limits(make_run("more", keys=keys, methods=("base", "r", "gaussian")))
    assert "Not run: everyday disturbances" in text
    for part in ("corruption benchmark", "attack", "No control"):
        assert part not in text
    assert "No attack was run. Not run: FGSM, PGD" in limits(make_run("none", keys=NOISE))


def test_limits_of_one_seed(make_run: MakeRun) -> None:
    text = limits(make_run(seeds=(0,)))
    assert "cover new images, not new seeds" in text
    assert "Holm" not in text
    assert "paired t test" not in text


@pytest.mark.parametrize(("gone", "said"), [(1, "1 of 15 cells"), (2, "2 of 15 cells")])
def test_limits_of_a_partial_run_come_first(make_run: MakeRun, gone: int, said: str) -> None:
    first = summarise(load_run(make_run(unfinished=(("r", 3), ("r", 4))[:gone]))).limits[0]
    assert first.startswith("The run is not finished")
    assert said in first
    assert "r seed 3" in first


def test_a_method_with_one_finished_seed_is_named(make_run: MakeRun) -> None:
    text = limits(make_run(unfinished=tuple(("r", seed) for seed in range(1, 5))))
    assert "r: one seed only, so its interval (Wilson) covers new images" in text


def test_a_variant_speaks_for_its_method(make_run: MakeRun) -> None:
    folder = make_run(methods=("base", "dropout", "r@eps=0.3"))
    assert "between r@eps=0.3 and base" in sentence(folder)
    assert "No control of equal power" not in " ".join(summarise(load_run(folder)).limits)
    alone = make_run("alone", methods=("base", "r@eps=0.3"))
    assert "No control of equal power" in " ".join(summarise(load_run(alone)).limits)
