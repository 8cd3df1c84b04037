"""From a run to what can be said of it: errors with intervals, paired differences, costs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from resolute.report.wording import limits, sentence
from resolute.stats import Interval, compare_paired, error_interval, holm, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolute.records import Key
    from resolute.report.run import Run
    from resolute.stats import Paired, Verdict

LEVEL = 0.95
ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline, on the seeds that both have finished.

    Attributes:
        error: Mean error of the method over the paired seeds.
        baseline: Mean error of the baseline over the same seeds.
        seeds: Number of paired seeds.
        paired: Difference and p values.
        p_holm: ``paired.p`` after Holm over all comparisons of its table.
        verdict: What that shows, in words.
    """

    error: float
    baseline: float
    seeds: int
    paired: Paired
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True)
class Entry:
    """One method in one column of a table.

    Attributes:
        method: Name of the method.
        suite: Name of the suite.
        keys: The shifts and severities that the error is the mean over: all of a suite, or one.
        seeds: Number of finished seeds.
        error: Mean error and interval: over seeds (Student's t), or with one seed over images (Wilson). NaN if no seed
            is finished.
        comparison: Against the baseline; None for the baseline itself and where no seed is paired.
        best: Whether the error is the lowest of its column and differs from every other method's, after Holm over all
            pairs of methods in the table.
    """

    method: str
    suite: str
    keys: tuple[Key, ...]
    seeds: int
    error: Interval
    comparison: Comparison | None
    best: bool = False


@dataclass(frozen=True)
class Cost:
    """What a method's training costs.

    Attributes:
        step_ms: Median over seeds of the time of a step, in milliseconds; NaN if not measured.
        ratio: Median over paired seeds of the step time relative to the baseline's of the same seed.
        low: Smallest of these ratios.
        high: Largest of these ratios.
        passes: Forward and backward passes of a batch in a step.
        parameters: Trainable numbers of the network.
    """

    step_ms: float
    ratio: float
    low: float
    high: float
    passes: float
    parameters: int


@dataclass(frozen=True)
class Summary:
    """All that the report says in numbers and words.

    Attributes:
        sentence: The verdict.
        methods: The rows, in the recipe's order.
        suites: The columns.
        baseline: The method that the others are compared with.
        table: One entry for each ``(method, suite)``; its p values are adjusted together.
        details: One entry for each method and severity; these p values are adjusted together too.
        costs: One for each method.
        limits: What this does not show, a sentence or two each.
        missing: The cells that have no records.
        n: Number of test images.
    """

    sentence: str
    methods: tuple[str, ...]
    suites: tuple[str, ...]
    baseline: str
    table: Mapping[tuple[str, str], Entry]
    details: tuple[Entry, ...]
    costs: Mapping[str, Cost]
    limits: tuple[str, ...]
    missing: tuple[tuple[str, int], ...]
    n: int


def summarise(run: Run) -> Summary:
    """Compute everything that the report shows.

    The error of a suite is the mean over its shifts and severities. Intervals are 95 % intervals; a difference is
    called one at p <= 0.05 after Holm.

    Args:
        run: A run directory, read.

    Returns:
        Numbers and words; the same run gives the same summary.
    """
    suites = {suite: tuple(key for key in run.keys if key[0] == suite) for suite in run.suites}
    best = _best(run, suites)
    entries = [replace(entry, best=(entry.method, entry.suite) in best) for entry in _entries(run, suites.values())]
    table = {(entry.method, entry.suite): entry for entry in entries}
    costs = {method: _cost(run, method) for method in run.methods}
    return Summary(
        sentence=sentence(run, table, costs),
        methods=run.methods,
        suites=run.suites,
        baseline=run.baseline,
        table=table,
        details=_entries(run, [(key,) for key in run.keys]),
        costs=costs,
        limits=limits(run, table),
        missing=run.missing,
        n=run.n,
    )


def _entries(run: Run, columns: Iterable[tuple[Key, ...]]) -> tuple[Entry, ...]:
    grid = [(method, keys) for keys in columns for method in run.methods]
    pairs = [_pair(run, method, run.baseline, keys) if method != run.baseline else None for method, keys in grid]
    adjusted = holm([pair.p if pair else np.nan for pair in pairs])
    return tuple(
        Entry(
            method=method,
            suite=keys[0][0],
            keys=keys,
            seeds=len(run.finished(method)),
            error=_error(run, method, keys),
            comparison=_comparison(run, method, keys, pair, float(p)) if pair else None,
        )
        for (method, keys), pair, p in zip(grid, pairs, adjusted, strict=True)
    )


def _comparison(run: Run, method: str, keys: tuple[Key, ...], paired: Paired, p: float) -> Comparison:
    seeds = _shared(run, method, run.baseline)
    return Comparison(
        error=float(run.wrong(method, seeds, keys).mean()),
        baseline=float(run.wrong(run.baseline, seeds, keys).mean()),
        seeds=len(seeds),
        paired=paired,
        p_holm=p,
        verdict=verdict(paired, p, ALPHA),
    )


def _error(run: Run, method: str, keys: tuple[Key, ...]) -> Interval:
    seeds = run.finished(method)
    if not seeds:
        return Interval(np.nan, np.nan, np.nan)
    return error_interval(run.wrong(method, seeds, keys).mean(axis=(1, 2)), run.n, LEVEL)


def _shared(run: Run, a: str, b: str) -> tuple[int, ...]:
    return tuple(seed for seed in run.finished(a) if (b, seed) in run.cells)


def _pair(run: Run, a: str, b: str, keys: tuple[Key, ...]) -> Paired | None:
    seeds = _shared(run, a, b)
    return compare_paired(run.wrong(a, seeds, keys), run.wrong(b, seeds, keys), LEVEL) if seeds else None


def _best(run: Run, suites: Mapping[str, tuple[Key, ...]]) -> set[tuple[str, str]]:
    duels = [(suite, a, b) for suite in suites for a, b in combinations(run.methods, 2)]
    pairs = [_pair(run, a, b, suites[suite]) for suite, a, b in duels]
    adjusted = holm([pair.p if pair else np.nan for pair in pairs])
    wins: dict[tuple[str, str], int] = {}
    for (suite, a, b), pair, p in zip(duels, pairs, adjusted, strict=True):
        word = verdict(pair, float(p), ALPHA) if pair else "no difference seen"
        if word != "no difference seen":
            place = (a if word == "better" else b, suite)
            wins[place] = wins.get(place, 0) + 1
    return {place for place, won in wins.items() if won == len(run.methods) - 1}


def _cost(run: Run, method: str) -> Cost:
    cells = [run.cells[method, seed] for seed in run.finished(method)]
    shared = _shared(run, method, run.baseline)
    ratios = [run.cells[method, seed].step_ms / run.cells[run.baseline, seed].step_ms for seed in shared]
    return Cost(
        step_ms=_median([cell.step_ms for cell in cells]),
        ratio=_median(ratios),
        low=min(ratios, default=np.nan),
        high=max(ratios, default=np.nan),
        passes=_median([cell.passes for cell in cells]),
        parameters=max((cell.parameters for cell in cells), default=0),
    )


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else np.nan
