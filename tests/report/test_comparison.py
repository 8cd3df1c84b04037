"""The figures of a comparison by hand, and its sentences."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

import crossed
from resolute.report.comparison import Comparison, Cost, Entry, Shown, advise, still_falling, summarise
from resolute.report.page import console_summary, escape, write_report
from resolute.report.run import COUNTS_ALONE, load_run
from resolute.run_folder import read_bits, write_json
from resolute.stats import Finding, Interval, compare_seeds

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
    assert summary.sentence.startswith("Use r: ")
    assert "times the step time" not in summary.sentence
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


def sentence(folder: Path) -> str:
    return summarise(load_run(folder)).sentence


Cell = tuple[float, float, str] | tuple[float, float, str, str]
"""The baseline's error and the method's in percent, the verdict, and that for these very images where it differs."""
FIRST, NONE_SEEN = ("clean", "disturbances", "noise", "fgsm"), "no difference seen"
BETTER, SAME, WORSE = (2.6, 2.1, "better"), (2.6, 2.1, NONE_SEEN), (2.6, 3.1, "worse")
HELPED, HARMED, UNMOVED = (35.5, 33.4, "better"), (35.5, 37.5, "worse"), (35.5, 35.1, NONE_SEEN)
CLOSE, STEEPER = (1.01, 1.02, 1.03), (2.2, 2.3, 2.4)
ON_CLEAN = "no worse on clean images (2.60 to 2.10 %, not significant)"
ON_DISTURBED = "2.10 points fewer errors on disturbed images (35.50 to 33.40 %, significant)"
TUNE = "Next: tune the strength of r on validation images (resolute tune --method r)."
MORE_CLEAN, MORE_DISTURBED = "More on clean images", "More on disturbed images"
OTHERS = "try other methods (resolute list methods)."
FALLING = (
    "Next: train longer (--epochs 60); the validation error of base was still falling at the end, from 5.00 to 4.00 %."
)


def shown(
    found: dict[str, tuple[Cell, ...]],
    costs: dict[str, tuple[float, ...]] | None = None,
    suites: tuple[str, ...] = FIRST,
    seeds: int = 8,
    **more: Any,
) -> Shown:
    """What a run with these errors and verdicts would show, a cell for each method and suite."""
    table = {}
    for method in ("base", *found):
        plain = ((2.6, 2.6, ""), (35.5, 35.5, ""), (9.0, 9.0, ""), (70.0, 70.0, ""))
        for suite, cell in zip(suites, found.get(method, plain), strict=False):
            base, own, word = cell[0] / 100, cell[1] / 100, cell[2]
            verdicts: list[Any] = [word, cell[-1]]
            mean = own - base
            findings = [Finding(Interval(mean, mean, mean), 0.95, 0.5, 0.5, each) for each in verdicts]
            paired = compare_seeds([mean - 0.04, mean + 0.04] * (seeds // 2)) if seeds > 1 else compare_seeds([mean])
            pair = Comparison(own, base, seeds, paired, *findings) if word else None
            finished = 0 if method in found and not word else seeds
            entry = Entry(method, suite, ((suite, suite, 1.0),), finished, Interval(own, own, own), pair)
            table[method, suite] = entry
    ratios = {method: Interval(mean, low, high) for method, (low, mean, high) in (costs or {}).items()}
    unknown = Interval(np.nan, np.nan, np.nan)
    spent = {method: Cost(np.nan, ratios.get(method, unknown), 1) for method in ("base", *found)}
    return Shown(table, spent, **more)


CASES: dict[str, tuple[Shown, str, tuple[str, ...]]] = {
    "helps": (
        shown({"r": (SAME, HELPED)}, {"r": CLOSE}, names={"r": "r at eps 0.6"}),
        f"Use r at eps 0.6: {ON_DISTURBED}, {ON_CLEAN}, 1.02 times the step time of plain training.",
        (MORE_CLEAN, TUNE),
    ),
    "a cost that was not measured well": (shown({"r": (SAME, HELPED)}), f"Use r: {ON_DISTURBED}, {ON_CLEAN}.",
                                          (MORE_CLEAN, TUNE)),
    "clean better too": (
        shown({"mixup": (BETTER, HELPED)}),
        f"Use mixup: {ON_DISTURBED}, 0.50 points fewer errors on clean images (2.60 to 2.10 %, significant).", (),
    ),
    "perhaps worse on clean images": (
        shown({"r": ((2.6, 2.9, NONE_SEEN), HELPED)}),
        f"Use r: {ON_DISTURBED}, perhaps worse on clean images (2.60 to 2.90 %, not significant).", (MORE_CLEAN, TUNE),
    ),
    "worse on these clean images": (
        shown({"r": ((2.6, 2.9, NONE_SEEN, "worse"), HELPED)}),
        f"Use r: {ON_DISTURBED}, worse on clean images (2.60 to 2.90 %, significant on these images, not for new "
        "ones).",
        (MORE_CLEAN, TUNE),
    ),
    "worse under noise, better under attack": (
        shown({"r": (SAME, HELPED, (9, 11, "worse"), (70, 60, "better"))}, {"r": CLOSE}),
        f"Use r: {ON_DISTURBED}, {ON_CLEAN}, also better under FGSM, 1.02 times the step time of plain training, but "
        "worse under Gaussian noise.", (MORE_CLEAN, TUNE),
    ),
    "worse under noise on these images": (
        shown({"r": (SAME, HELPED, (9, 11, NONE_SEEN, "worse"))}),
        f"Use r: {ON_DISTURBED}, {ON_CLEAN}, but worse for these images, not for new ones, under Gaussian noise.",
        (MORE_CLEAN, TUNE),
    ),
    "the best costs more": (
        shown({"r": (SAME, (35.5, 34.2, "better")), "fgsm": (BETTER, HELPED)}, {"r": CLOSE, "fgsm": STEEPER}),
        f"Use fgsm: {ON_DISTURBED}, 0.50 points fewer errors on clean images (2.60 to 2.10 %, significant), 2.30 times "
        "the step time of plain training; r costs less, 1.02 times, with 1.30 points fewer errors on disturbed images "
        "(35.50 to 34.20 %, significant).", ("Also significant: r is better on disturbed images.",),
    ),
    "the best harms clean images, the next does not": (
        shown({"fgsm": (WORSE, (35.5, 30.0, "better")), "mixup": (SAME, HELPED)}, {"fgsm": STEEPER}),
        f"Use mixup: {ON_DISTURBED}, {ON_CLEAN}.",
        ("Also significant: fgsm is worse on clean images, better on disturbed images.", MORE_CLEAN),
    ),
    "all that helps harms": (
        shown({"fgsm": (WORSE, HELPED), "r": (SAME, UNMOVED)}),
        f"No method helps without harm; nearest comes fgsm: {ON_DISTURBED}, 0.50 points more errors on clean images "
        "(2.60 to 3.10 %, significant).", (),
    ),
    "one method helps and harms": (
        shown({"mixup": (BETTER, HARMED)}),
        "mixup helps, but not without harm: 0.50 points fewer errors on clean images (2.60 to 2.10 %, significant), "
        "2.00 points more errors on disturbed images (35.50 to 37.50 %, significant).", (),
    ),
    "helps under noise alone": (
        shown({"mixup": (SAME, UNMOVED, (9, 7, "better"))}),
        "Use mixup: 2.00 points fewer errors under Gaussian noise (9.00 to 7.00 %, significant), no worse on disturbed "
        f"images (35.50 to 35.10 %, not significant), {ON_CLEAN}.", (MORE_DISTURBED,),
    ),
    "helps against attacks alone": (
        shown({"fgsm": (SAME, UNMOVED, (9, 9, NONE_SEEN), (70, 58, "better"))}, {"fgsm": STEEPER}),
        "Use fgsm against attacks only: 12.00 points fewer errors under FGSM (70.00 to 58.00 %, significant), no worse "
        f"on disturbed images (35.50 to 35.10 %, not significant), {ON_CLEAN}, 2.30 times the step time of plain "
        "training.", (MORE_DISTURBED,),
    ),
    "none helped": (
        shown({"r": (SAME, UNMOVED), "mixup": (WORSE, HARMED)}, {"r": CLOSE}, falling=(0.05, 0.04, 30)),
        "None of these methods helped; nearest came r: no better on disturbed images (35.50 to 35.10 %, not "
        "significant), no better on clean images (2.60 to 2.10 %, not significant).",
        ("Also significant: mixup is worse on clean images and on disturbed images.", FALLING, MORE_DISTURBED),
    ),
    "one method that did not help": (
        shown({"mixup": (WORSE, (35.5, 35.5, NONE_SEEN), (9, 11, "worse"))}),
        "mixup did not help: no better on disturbed images (35.50 to 35.50 %, not significant), 0.50 points more "
        "errors on clean images (2.60 to 3.10 %, significant), but worse under Gaussian noise.", (f"Next: {OTHERS}",),
    ),
    "on these images alone": (
        shown({"r": ((2.6, 2.1, NONE_SEEN, "better"), (35.5, 33.4, NONE_SEEN, "better"))}),
        "r did not help: better on disturbed images (35.50 to 33.40 %, significant on these images, not for new ones), "
        "better on clean images (2.60 to 2.10 %, significant on these images, not for new ones).",
        (MORE_DISTURBED, f"{TUNE[:-1]}, or {OTHERS}"),
    ),
    "one seed": (
        shown({"r": (SAME, UNMOVED), "mixup": (SAME, (35.5, 36.5, NONE_SEEN))}, seeds=1),
        "One seed cannot tell whether r helps: 0.40 points fewer errors on disturbed images (35.50 to 35.10 %, one "
        "seed), 0.50 points fewer errors on clean images (2.60 to 2.10 %, one seed).",
        ("Next: train several seeds (--seeds 5); one says nothing about others.", f"{TUNE[:-1]}, or {OTHERS}"),
    ),
    "no disturbed suite": (
        shown({"r": (BETTER,)}, suites=("clean",)),
        "Use r: 0.50 points fewer errors on clean images (2.60 to 2.10 %, significant).", (TUNE,),
    ),
    "attacks beside clean images": (
        shown({"fgsm": (WORSE, (70, 58, "better"))}, {"fgsm": STEEPER}, suites=("clean", "fgsm")),
        "fgsm helps, but not without harm: 12.00 points fewer errors under FGSM (70.00 to 58.00 %, significant), 0.50 "
        "points more errors on clean images (2.60 to 3.10 %, significant), 2.30 times the step time of plain training.",
        (),
    ),
    "diverged": (
        shown({"r": (SAME, HELPED)}, diverged={"r": "2 of 10 seeds"}),
        f"Use r: {ON_DISTURBED}, {ON_CLEAN}, but training diverged with 2 of 10 seeds.", (MORE_CLEAN, TUNE),
    ),
    "one that diverged with every seed": (
        shown({"fgsm": ((2.6, 2.6, ""), (2.6, 2.6, "")), "r": (SAME, HELPED)}), f"Use r: {ON_DISTURBED}, {ON_CLEAN}.",
        (MORE_CLEAN, TUNE),
    ),
    "counts alone": (
        shown({"r": (SAME, HELPED), "mixup": (WORSE, UNMOVED)}, new_images=False),
        f"Use r: {ON_DISTURBED[:-1]} on these images), {ON_CLEAN}.",
        ("Also significant: mixup is worse for these images on clean images.", MORE_CLEAN, TUNE),
    ),
    "another baseline": (
        shown({"r": (SAME, HELPED)}, {"r": CLOSE}, baseline="mixup"),
        f"Use r: {ON_DISTURBED}, {ON_CLEAN}, 1.02 times the step time of mixup.", (MORE_CLEAN, TUNE),
    ),
    "nothing to compare with": (
        shown({}, suites=("clean", "disturbances")),
        "base has 2.60 % errors on clean images and 35.50 % errors on disturbed images; there is nothing to compare it "
        "with.", (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_answer(case: str) -> None:
    """Every case says its sentence, then its lines; how many would tell is cut to where."""
    facts, said, lines = CASES[case]
    sentence, *rest = advise(facts)
    assert sentence == said
    assert [re.sub(r"Next: a new run .* (on|under) (.*) \(.*", r"More \1 \2", line) for line in rest] == list(lines)


def test_harm_on_corrupted_images_is_harm() -> None:
    suites = ("clean", "disturbances", "corruptions")
    sentence, *_ = advise(shown({"r": (SAME, HELPED, (10.7, 12.8, "worse"))}, suites=suites))
    assert sentence.startswith("r helps, but not without harm: ")
    assert sentence.endswith("but worse on corrupted images.")


def test_the_answer_says_how_many_seeds_would_tell() -> None:
    facts = shown({"r": ((2.6, 2.6, NONE_SEEN), (35.5, 34.5, NONE_SEEN))})
    pair = facts.table["r", "disturbances"].comparison
    assert pair is not None
    needed = pair.paired.needed("seeds", 0.95, "seeds")
    assert needed is not None
    assert needed > 8
    said = (
        f"Next: a new run with {needed} seeds would show a difference of this size on disturbed images (-1.00 points) "
    )
    assert f"{said}with 80 % power." in advise(facts)


@pytest.mark.parametrize(
    ("errors", "falling"),
    [
        ([0.9 ** e for e in range(20)], True),
        ([0.5, 0.3, 0.2, *[0.1, 0.11, 0.1, 0.09] * 4], False),
        ([0.5 - 0.0001 * e for e in range(20)], False),  # steadily, but by less than 5 %
        ([0.1 + 0.05 * (e % 2) - 0.006 * (e > 15) for e in range(20)], False),  # within its scatter
        ([0.5, 0.4, 0.3], False),
        ([], False),
    ],
)  # fmt: skip
def test_the_validation_error_is_still_falling(make_run: MakeRun, errors: list[float], *, falling: bool) -> None:
    run = load_run(make_run(seeds=(0, 1)))
    curves = {"validation_error": np.array([each for error in errors for each in (np.nan, error)])}
    cells = {place: replace(cell, curves=curves) for place, cell in run.cells.items()}
    told = still_falling(replace(run, cells=cells))
    assert (told is not None) == falling
    if told:
        assert [*told] == pytest.approx([np.mean(errors[10:15]), np.mean(errors[15:]), 40])
        assert any("train longer (--epochs 80)" in line for line in summarise(replace(run, cells=cells)).lines)


def test_the_answer_is_first_everywhere(make_run: MakeRun) -> None:
    folder = make_run(unfinished=(("fgsm", 0),))
    built = write_report(folder).built
    said, lines = built.sentence, built.lines
    assert lines
    assert [*console_summary(built)][: 1 + len(lines)] == [said, *lines]
    markdown = (folder / "report.md").read_text()
    assert markdown.startswith("\n\n".join([f"# {escape(said)}", *map(escape, lines)]))
    page = (
        unescape((folder / "report.html").read_text()).replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    )
    assert f"<h1>{said}</h1>" in page
    assert all(f"<p>{line}</p>" in page for line in lines)


def test_without_step_times_no_cost_is_claimed(make_run: MakeRun) -> None:
    folder = make_run()
    assert "1.01 times the step time of plain training" in sentence(folder)
    (folder / "timing.json").unlink()
    assert "times the step time" not in sentence(folder)
    assert "No cost is given: no steps were timed side by side." in limits(folder)


def test_one_seed_and_no_pair(make_run: MakeRun) -> None:
    assert sentence(make_run("one", seeds=(0,))).startswith("One seed cannot tell whether r helps: ")
    unpaired = make_run("unpaired", seeds=(0,), unfinished=(("base", 0),))
    assert sentence(unpaired).endswith("; no seed is finished with both base and another method.")
    nothing = make_run("nothing", seeds=(0,), methods=("base", "r"), unfinished=(("r", 0),))
    assert sentence(nothing).startswith("base has ")


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
    told = r"better on clean images \(2\.78 to \d\.\d\d %, significant on these images, not for new ones\)\."
    assert re.fullmatch(rf"r did not help: {told}", summary.sentence)
    assert re.match(
        r"Next: a new run with [\d,]+ images would show a difference of this size on clean", summary.lines[0]
    )
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
    assert "r@eps=0.3" in sentence(folder)
    assert "No control of equal power" not in " ".join(summarise(load_run(folder)).limits)
    alone = make_run("alone", methods=("base", "r@eps=0.3"))
    assert "No control of equal power" in " ".join(summarise(load_run(alone)).limits)
