"""What a comparison shows: errors with intervals, paired differences, costs, and the sentences about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from resolute.report.numbers import bounds, confidence, count, listing, number, p_value, percent, points
from resolute.report.run import COUNTS_ALONE
from resolute.stats import BOTH, Interval, compare_paired, compare_seeds, error_interval, find, median_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolute.report.run import Place, Run
    from resolute.run_folder import Key
    from resolute.stats import Difference, Finding, Over, Verdict

    Table = Mapping[tuple[str, str], "Entry"]


LEVEL = 0.95
"""Confidence of the intervals of errors and of step times."""


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline, on the seeds that both have finished."""

    error: float  # mean error of the method over the paired seeds
    baseline: float  # mean error of the baseline over the same seeds
    seeds: int
    paired: Difference
    found: Finding  # for new seeds and new images, together with all comparisons of its table
    here: Finding  # the same for new seeds on these very images; without the answers image by image both are this

    @property
    def verdict(self) -> Verdict:
        """Whether it is better for new seeds and new images."""
        return self.found.verdict

    @property
    def apart(self) -> bool:
        """Whether these very images tell what new images do not."""
        return self.here.verdict != self.verdict

    @property
    def word(self) -> str:
        """The verdict, and that for these images where it differs."""
        return f"{self.verdict} (on these images: {self.here.verdict})" if self.apart else self.verdict

    @property
    def needed(self) -> str:
        """How many images or seeds would show a difference of this size with 80 % power, in words."""
        if self.seeds == 1 or self.verdict != "no difference seen":
            return ""
        over = BOTH if self.paired.images else "seeds"
        return would_tell(self.paired, self.found.level, over)


@dataclass(frozen=True)
class Entry:
    """One method in one column of a table."""

    method: str
    suite: str
    keys: tuple[Key, ...]  # the shifts and severities that the error is the mean over: all of a suite, or one
    seeds: int
    error: Interval  # mean error and interval
    comparison: Comparison | None  # against the baseline; None for the baseline itself and where no seed is paired
    best: bool = False  # whether the error is the lowest of its column and differs from every other method's


@dataclass(frozen=True)
class Cost:
    """What a method's training costs."""

    step_ms: float  # median time of a step of the baseline, in milliseconds; NaN for others and if not measured
    ratio: Interval  # median of its step time over the baseline's beside it; NaN if not measured, or in doubt
    passes: float  # forward and backward passes of a batch in a step
    doubt: str = ""  # why no ratio is given although steps were timed

    @property
    def steady(self) -> bool:
        """Whether there is no spread to show."""
        return math.isnan(self.ratio.mean) or self.ratio.low == self.ratio.high


@dataclass(frozen=True)
class Summary:
    """All that the report says in numbers and words.

    Attributes:
        run: What it was computed from.
        sentence: The verdict.
        table: One entry for each ``(method, suite)``; its p values are adjusted together.
        details: One entry for each method and severity; these p values are adjusted together too.
        costs: One for each method.
        limits: What this does not show, a sentence or two each.
        apart: What holds of these very images and not, as far as can be told, of new ones; a sentence each.
    """

    run: Run
    sentence: str
    table: Mapping[tuple[str, str], Entry]
    details: tuple[Entry, ...]
    costs: Mapping[str, Cost]
    limits: tuple[str, ...]
    apart: tuple[str, ...]

    @property
    def missing(self) -> tuple[Place, ...]:
        """The cells that have no records."""
        return self.run.missing


def summarise(run: Run) -> Summary:
    """Compute everything that the report shows; the error of a suite is the mean over its shifts and severities."""
    suites = {suite: tuple(key for key in run.keys if key[0] == suite) for suite in run.suites}
    best = _best(run, suites)
    entries = [replace(entry, best=(entry.method, entry.suite) in best) for entry in _entries(run, suites.values())]
    table = {(entry.method, entry.suite): entry for entry in entries}
    costs = {method: _cost(run, method) for method in run.methods}
    details = _entries(run, [(key,) for key in run.keys])
    sentence = comparison_sentence(run, table, costs)
    return Summary(run, sentence, table, details, costs, limits(run, table, costs), apart(run, table))


def _entries(run: Run, columns: Iterable[tuple[Key, ...]]) -> tuple[Entry, ...]:
    grid = [(method, keys) for keys in columns for method in run.methods]
    pairs = [_pair(run, method, run.baseline, keys) if method != run.baseline else None for method, keys in grid]
    found, here = (find(pairs, over) for over in (_widest(run), "seeds"))
    return tuple(
        Entry(
            method=method,
            suite=keys[0][0],
            keys=keys,
            seeds=len(run.finished(method)),
            error=_error(run, method, keys),
            comparison=_comparison(run, method, keys, pair, own, on_these) if pair and own and on_these else None,
        )
        for (method, keys), pair, own, on_these in zip(grid, pairs, found, here, strict=True)
    )


def _widest(run: Run) -> Over:
    """Give what can be told of: new seeds and images, without the answers image by image new seeds alone."""
    return BOTH if run.has_answers else "seeds"


def _comparison(
    run: Run, method: str, keys: tuple[Key, ...], paired: Difference, found: Finding, here: Finding
) -> Comparison:
    seeds = _shared(run, method, run.baseline)
    ours, theirs = (float(run.errors(name, seeds, keys).mean()) for name in (method, run.baseline))
    return Comparison(ours, theirs, len(seeds), paired, found, here)


def _error(run: Run, method: str, keys: tuple[Key, ...]) -> Interval:
    if seeds := run.finished(method):
        return error_interval(run.errors(method, seeds, keys), run.n, LEVEL)
    return Interval(np.nan, np.nan, np.nan)


def _shared(run: Run, a: str, b: str) -> tuple[int, ...]:
    return tuple(seed for seed in run.finished(a) if (b, seed) in run.cells)


def _pair(run: Run, a: str, b: str, keys: tuple[Key, ...]) -> Difference | None:
    seeds = _shared(run, a, b)
    if not seeds:
        return None
    if run.has_answers:
        return compare_paired(run.wrong(a, seeds, keys), run.wrong(b, seeds, keys))
    return compare_seeds(run.errors(a, seeds, keys) - run.errors(b, seeds, keys))


def _best(run: Run, suites: Mapping[str, tuple[Key, ...]]) -> set[tuple[str, str]]:
    duels = [(suite, a, b) for suite in suites for a, b in combinations(run.methods, 2)]
    pairs = [_pair(run, a, b, suites[suite]) for suite, a, b in duels]
    wins: dict[tuple[str, str], int] = {}
    for (suite, a, b), found in zip(duels, find(pairs, _widest(run)), strict=True):
        word = found.verdict if found else "no difference seen"
        if word != "no difference seen":
            place = (a if word == "better" else b, suite)
            wins[place] = wins.get(place, 0) + 1
    return {place for place, won in wins.items() if won == len(run.methods) - 1}


def _cost(run: Run, method: str) -> Cost:
    passes = _median([run.cells[method, seed].passes for seed in run.finished(method)])
    if not run.finished(method):
        return Cost(np.nan, UNKNOWN, passes)
    if method == run.baseline:
        ms = _median([each for steps in run.steps.values() for each in steps.ms])
        return Cost(ms, UNKNOWN if math.isnan(ms) else Interval(1, 1, 1), passes)
    if (steps := run.steps.get(method)) is None:
        return Cost(np.nan, UNKNOWN, passes)
    ratio, doubt = median_interval(steps.ratios, LEVEL), ""
    if steps.load > BUSY * steps.cores:
        doubt = f"{number(steps.load)} processes wanted {steps.cores:g} cores while its steps were timed"
    elif not ratio.high <= WIDE * ratio.low:
        doubt = (
            f"the 95 % interval of its step time over that of {run.baseline} is {bounds(ratio, number) or 'unknown'}"
        )
    return Cost(np.nan, UNKNOWN if doubt else ratio, passes, doubt)


UNKNOWN = Interval(np.nan, np.nan, np.nan)
WIDE = 1.2
"""Upper over lower bound of a ratio of step times above which it is no figure to give."""
BUSY = 1.5
"""Load average for each core above which other work must have been running."""


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else np.nan


ATTACK_TITLES = {"fgsm": "FGSM", "pgd": "PGD", "autoattack": "AutoAttack", "square": "black-box attacks"}
BENCHMARKS = {
    "disturbances": "everyday disturbances (crops, flips, colour, lighting)",
    "corruptions": "the corruption benchmark (blur, weather, compression)",
}
CONTROLS = ("gaussian", "additive", "dropout")


def headline(run: Run) -> tuple[str, str]:
    """Choose what the verdict speaks of: R on clean images, or what comes nearest to it in this run."""
    others = [method for method in run.methods if method != run.baseline]
    noisy = [method for method in others if _plain(method) == "r"]
    method = next(iter([*noisy, *others]), run.baseline)
    return method, "clean" if "clean" in run.suites else run.suites[0]


def _plain(method: str) -> str:
    """A variant's method: ``r`` of ``r@eps=0.3``."""
    return method.partition("@")[0]


def comparison_sentence(run: Run, table: Table, costs: Mapping[str, Cost]) -> str:
    """Say in one sentence what the run showed."""
    method, suite = headline(run)
    entry = table[method, suite]
    if entry.comparison is None:
        return _alone(run, entry)
    found, ratio = entry.comparison, costs[method].ratio
    before, after = percent(found.baseline), percent(found.error)
    if found.verdict == "no difference seen":
        pair = f"{method} and {run.baseline} in the {suite} error: {after} against {before} %"
        text = f"no significant difference between {pair} ({_evidence(found)})"
    else:
        verb = "lowers" if found.verdict == "better" else "raises"
        text = f"{method} {verb} the {suite} error from {before} to {after} % ({_evidence(found)})"
    if not math.isnan(ratio.mean):
        text += f"; a training step takes {number(ratio.mean)} times as long as with {run.baseline}"
        text += f", 95 % interval {bounds(ratio, number)}"
    return f"{text[0].upper()}{text[1:]}."


def _evidence(comparison: Comparison) -> str:
    found, own = comparison.found, bounds(comparison.found.difference, points)
    if comparison.seeds == 1:
        return f"{points(found.difference.mean)} points with 1 seed, which says nothing about other seeds"
    word = "not significant" if comparison.verdict == "no difference seen" else "significant"
    return (
        f"{points(found.difference.mean)} points, {confidence(found.level)} interval {own}, "
        f"{comparison.seeds} paired seeds; {word} at 5 %: {p_value(found.p_holm, 'p')}, Holm-corrected"
    )


def would_tell(paired: Difference, level: float, over: Over) -> str:
    """Say how many images or seeds would show a difference of this size with 80 % power."""
    images = paired.needed("images", level, over) if over != "seeds" else None
    seeds = paired.needed("seeds", level, over) if over != "images" else None
    parts = [count(images, "image")] if images else []
    parts += [count(seeds, "seed")] if seeds else []
    return " or ".join(parts)


def apart(run: Run, table: Table) -> tuple[str, ...]:
    """Tell what holds of these very images from what holds of new ones, and how many would tell."""
    found = []
    for entry in table.values():
        own = entry.comparison
        if own is None or own.seeds == 1 or own.verdict != "no difference seen" or not own.paired.mean:
            continue
        enough = f"about {own.needed} would do" if own.needed else "no number of images or seeds alone would do"
        if own.apart:
            found.append(
                f"On these {count(run.n, 'image')} {entry.method} is {own.here.verdict} than {run.baseline} in the "
                f"{entry.suite} error ({count(own.seeds, 'seed')}, {p_value(own.here.p_holm, 'p')}); "
                f"for new images they are too few to tell: {enough}."
            )
        elif (entry.method, entry.suite) == headline(run):
            found.append(
                f"Nor is the {entry.suite} error of {entry.method} significantly different on these "
                f"{count(run.n, 'image')}; to see a difference of this size, {enough}."
            )
    return tuple(found)


def _alone(run: Run, entry: Entry) -> str:
    if not entry.seeds:
        return f"No result yet: no seed of {entry.method} is finished."
    reason = (
        "there is nothing to compare it with"
        if entry.method == run.baseline
        else f"no seed of {run.baseline} is finished to compare it with"
    )
    return f"{entry.method} has a {entry.suite} error of {percent(entry.error.mean)} %; {reason}."


def limits(run: Run, table: Table, costs: Mapping[str, Cost]) -> tuple[str, ...]:
    """List what the run does not show, from what was and was not run."""
    data, model = run.recipe.get("data", "one data set"), run.recipe.get("model", "one network")
    found = [
        _unfinished(run),
        "" if run.has_answers else COUNTS_ALONE,
        f"One data set ({data}, {count(run.n, 'image')} of its {run.recipe.get('split', 'test')} split) and one "
        f"network ({model}): other data and other networks may give other results.",
        _intervals(run),
        NO_DIFFERENCE if any(own.comparison and own.comparison.seeds > 1 for own in table.values()) else "",
        _attacks(run),
        _benchmarks(run),
        _controls(run),
        "All methods were trained with the same hyper-parameters. A method with its own might do better.",
        _step_times(run, costs),
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
            f"Training diverged in {len(run.diverged)} of {cells} ({_named(run.diverged)}); they are left out of all "
            "means. A lower learning rate may help."
        )
    return " ".join(texts)


def _named(cells: Iterable[Place]) -> str:
    return listing([f"{method} seed {seed}" for method, seed in cells])


def _intervals(run: Run) -> str:
    finished = {method: len(run.finished(method)) for method in run.methods if run.finished(method)}
    single = [method for method, seeds in finished.items() if seeds == 1]
    if len(single) == len(finished):
        return (
            "One seed each: the intervals (Wilson) cover new images, not new seeds, so no difference is tested. "
            "Differences between seeds are often as large as those between methods."
        )
    most = max(finished.values())
    text = (
        f"The intervals of errors (Student's t over {most} seeds) cover new seeds on the same images, not new images."
    )
    alone = f" {listing(single)}: one seed only, so its interval (Wilson) covers new images." if single else ""
    return text + alone


def covered(run: Run) -> str:
    """Say what the verdicts of a comparison cover."""
    return "new seeds and new images" if run.has_answers else "new seeds on these images, not new images"


NO_DIFFERENCE = (
    "\N{LEFT DOUBLE QUOTATION MARK}No difference seen\N{RIGHT DOUBLE QUOTATION MARK} does not mean that there is none: "
    "the interval says how large it may be."
)


def how_tested(cover: str, found: Iterable[Finding]) -> str:
    """Say under a table where its intervals, p values and verdicts come from, and what they cover."""
    levels = sorted(each.level for each in found)
    if not levels:
        return ""
    span = " to ".join(dict.fromkeys(confidence(level) for level in (levels[0], levels[-1])))
    return (
        f"Interval, p and verdict of a difference come from one model and cover {cover}. p is Holm-corrected for the "
        f"{count(len(levels), 'comparison')} of the table, and each interval is at the level at which it was tested "
        f"({span}), so that it excludes 0 where p is at most 0.05 and nowhere else."
    )


def _attacks(run: Run) -> str:
    names = {name.lower() for suite, shift, _ in run.keys for name in (suite, shift)}
    ran = [title for key, title in ATTACK_TITLES.items() if key in names]
    absent = [title for key, title in ATTACK_TITLES.items() if key not in names]
    if "autoattack" in names or not absent:
        return ""
    start = f"Of attacks only {listing(ran)} was run" if ran else "No attack was run"
    if ran == ["FGSM"]:
        start += ", one step along the gradient; stronger attacks often find what it misses"
    return f"{start}. Not run: {listing(absent)}. This is no proof of adversarial robustness."


def _benchmarks(run: Run) -> str:
    absent = [title for key, title in BENCHMARKS.items() if key not in run.suites]
    return f"Not run: {listing(absent)}." if absent else ""


def _step_times(run: Run, costs: Mapping[str, Cost]) -> str:
    if not run.steps:
        return "No cost is given: no steps were timed side by side."
    doubts = "".join(f" No cost is given for {name}: {cost.doubt}." for name, cost in costs.items() if cost.doubt)
    return (
        f"A step of each method was timed beside one of {run.baseline}, in turn, on one batch of this machine, without "
        f"reading and augmentation.{doubts} Other networks, batch sizes and devices give other ratios."
    )


def _controls(run: Run) -> str:
    plain = {_plain(method) for method in run.methods}
    if "r" not in plain or plain.intersection(CONTROLS):
        return ""
    return (
        f"No control of equal power ({', '.join(CONTROLS)}) was trained: any noise of the same strength might have the "
        "same effect as r."
    )
