"""From a run to what can be said of it: errors with intervals, paired differences, costs. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from resolute.report.numbers import count, listing, percent, points, signed_bounds, times
from resolute.stats import Interval, compare_paired, error_interval, holm, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolute.report.numbers import Run
    from resolute.run_folder import Key
    from resolute.stats import Paired, Verdict

    Table = Mapping[tuple[str, str], "Entry"]


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


ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "autoattack": "AutoAttack", "square": "black-box attacks"}
BENCHMARKS = {
    "disturbances": "everyday disturbances (crops, flips, colour, lighting)",
    "corruptions": "the corruption benchmark (blur, weather, compression)",
}
CONTROLS = ("gaussian", "additive", "dropout")


def headline(run: Run) -> tuple[str, str]:
    """Choose what the verdict speaks of: R on clean images, or what comes nearest to it in this run.

    Args:
        run: The run.

    Returns:
        Method and suite.
    """
    others = [method for method in run.methods if method != run.baseline]
    noisy = [method for method in others if _plain(method) == "r"]
    method = next(iter([*noisy, *others]), run.baseline)
    return method, "clean" if "clean" in run.suites else run.suites[0]


def _plain(method: str) -> str:
    """A variant's method: ``r`` of ``r@eps=0.3``."""
    return method.partition("@")[0]


def sentence(run: Run, table: Table, costs: Mapping[str, Cost]) -> str:
    """Say in one sentence what the run showed.

    Args:
        run: The run.
        table: Errors and comparisons by method and suite.
        costs: Costs by method.

    Returns:
        Plain text.
    """
    method, suite = headline(run)
    entry = table[method, suite]
    if entry.comparison is None:
        return _alone(run, entry)
    comparison, ratio = entry.comparison, costs[method].ratio
    cost = "" if math.isnan(ratio) else f" costs {times(ratio)} times a step of {run.baseline}"
    if comparison.verdict == "no difference seen":
        text = (
            f"no difference seen between {method} and {run.baseline} in the {suite} error: "
            f"{percent(comparison.error)} against {percent(comparison.baseline)} % ({_evidence(comparison)})"
        )
        text += f"; {method}{cost}." if cost else "."
    else:
        verb = "lowers" if comparison.verdict == "better" else "raises"
        text = (
            f"{method} {verb} the {suite} error from {percent(comparison.baseline)} to {percent(comparison.error)} % "
            f"({_evidence(comparison)})"
        )
        text += f" and{cost}." if cost else "."
    return text[0].upper() + text[1:]


def _evidence(comparison: Comparison) -> str:
    difference, p = comparison.paired.difference, comparison.p_holm
    if comparison.seeds == 1:
        return f"{points(difference.mean)} points with 1 seed, which says nothing about the next"
    relation = "p < 0.001" if p < 0.001 else f"p = {p:.3f}".rstrip("0").rstrip(".")
    return (
        f"{points(difference.mean)} points, 95 % interval {signed_bounds(difference)}, "
        f"{comparison.seeds} paired seeds, {relation} after Holm"
    )


def _alone(run: Run, entry: Entry) -> str:
    if not entry.seeds:
        return f"Nothing to say yet: no seed of {entry.method} is finished."
    reason = (
        "nothing to compare it with" if entry.method == run.baseline else f"no seed of {run.baseline} to pair it with"
    )
    return f"{entry.method} has a {entry.suite} error of {percent(entry.error.mean)} % and there is {reason}."


def limits(run: Run, table: Table) -> tuple[str, ...]:
    """List what the run does not show, from what was and was not run.

    Args:
        run: The run.
        table: Errors and comparisons by method and suite.

    Returns:
        Plain text, a paragraph each.
    """
    data, model = run.recipe.get("data", "one data set"), run.recipe.get("model", "one network")
    found = [
        _unfinished(run),
        f"One data set ({data}, {count(run.n, 'image')} of its {run.recipe.get('split', 'test')} split) and one "
        f"network ({model}): nothing here speaks of other data or networks.",
        _intervals(run),
        _p_values(table),
        _attacks(run),
        _benchmarks(run),
        _controls(run),
        "All methods were trained with the same hyper-parameters; one tuned for itself could do better.",
        "Step times were measured on this machine while the run trained. Other networks, batch sizes and devices give "
        "other ratios.",
    ]
    return tuple(text for text in found if text)


def _unfinished(run: Run) -> str:
    if not run.missing:
        return ""
    cells = count(len(run.missing) + len(run.cells), "cell")
    open_cells = [cell for cell in run.missing if cell not in run.diverged]
    texts = []
    if open_cells:
        texts.append(f"The run is not finished: {len(open_cells)} of {cells} are missing ({_named(open_cells)}).")
    if run.diverged:
        texts.append(
            f"Training diverged in {len(run.diverged)} of {cells} ({_named(run.diverged)}), which count in no mean: a "
            "lower learning rate may help."
        )
    return " ".join(texts)


def _named(cells: Iterable[tuple[str, int]]) -> str:
    return listing([f"{method} seed {seed}" for method, seed in cells])


def _intervals(run: Run) -> str:
    finished = {method: len(run.finished(method)) for method in run.methods if run.finished(method)}
    single = [method for method, seeds in finished.items() if seeds == 1]
    if len(single) == len(finished):
        return (
            "One seed each: the intervals (Wilson) speak of new images, not of new seeds, and no difference can be "
            "called one. Differences between seeds are often as large as those between methods."
        )
    text = (
        f"The intervals (Student's t over {max(finished.values())} seeds) speak of new seeds on the same images, not "
        "of new images."
    )
    return (
        f"{text} {listing(single)}: one seed only, so the interval (Wilson) speaks of new images." if single else text
    )


def _p_values(table: Table) -> str:
    tested = [entry.comparison for entry in table.values() if entry.comparison]
    seeds = max((comparison.seeds for comparison in tested), default=0)
    if seeds < 2:
        return ""
    return (
        "p is the largest of three: a paired t test over seeds, a McNemar test over images (each counted once over all "
        "seeds), and Clark's min F' over both at once. It is adjusted by Holm over the "
        f"{count(len(tested), 'comparison')} of the table; 0.05 or below is called a difference. "
        "\N{LEFT DOUBLE QUOTATION MARK}No difference seen\N{RIGHT DOUBLE QUOTATION MARK} does not mean that there is "
        f"none. With {seeds} seeds the exact sign-flip p cannot fall below {2 / 2**seeds:.3g}; it decides nothing."
    )


def _attacks(run: Run) -> str:
    names = {name.lower() for suite, shift, _ in run.keys for name in (suite, shift)}
    ran = [title for key, title in ATTACKS.items() if key in names]
    absent = [title for key, title in ATTACKS.items() if key not in names]
    if "autoattack" in names or not absent:
        return ""
    start = f"Of attacks only {listing(ran)} was run" if ran else "No attack was run"
    if ran == ["FGSM"]:
        start += ", one step of the gradient, which stronger attacks often undo"
    return f"{start}. Not run: {listing(absent)}. This is no proof of adversarial robustness."


def _benchmarks(run: Run) -> str:
    absent = [title for key, title in BENCHMARKS.items() if key not in run.suites]
    return f"Not run: {listing(absent)}." if absent else ""


def _controls(run: Run) -> str:
    plain = {_plain(method) for method in run.methods}
    if "r" not in plain or plain.intersection(CONTROLS):
        return ""
    return (
        f"No control of equal power ({', '.join(CONTROLS)}) was trained: what r does, any noise of its strength might "
        "do as well."
    )
